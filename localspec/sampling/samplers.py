"""Make samplers for one model; token options are checked against its vocabulary."""

from __future__ import annotations

from localspec.errors import UsageError
from localspec.params import SamplingParams
from localspec.protocols import Constraint
from localspec.sampling.sampler import Sampler
from localspec.sampling.sequence_breakers import BreakerVocabulary, SequenceBreakers, find_sequence_breakers


class Samplers:
    """Factory of samplers over one vocabulary. Caches the last sequence breakers, which take a pass over it."""

    def __init__(self, vocabulary: BreakerVocabulary) -> None:
        self._vocabulary = vocabulary
        self._breakers: dict[tuple[str, ...], SequenceBreakers] = {}

    def check(self, params: SamplingParams) -> None:
        """Raise :class:`UsageError` if ``logit_bias`` names a token outside the vocabulary."""
        n_tokens = self._vocabulary.n_tokens
        for token, _ in params.biases:
            if token >= n_tokens:
                raise UsageError(f"logit_bias names token {token}; this model's ids go from 0 to {n_tokens - 1}.")

    def make(self, params: SamplingParams, constraint: Constraint | None = None) -> Sampler:
        """A sampler for one answer."""
        return Sampler(params, constraint, self._sequence_breakers(params))

    def _sequence_breakers(self, params: SamplingParams) -> SequenceBreakers | None:
        texts = tuple(params.dry_sequence_breakers)
        if not params.dries or not texts:
            return None
        if texts not in self._breakers:
            self._breakers = {texts: find_sequence_breakers(self._vocabulary, texts)}
        return self._breakers[texts]
