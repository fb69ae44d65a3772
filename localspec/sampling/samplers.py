"""Makes samplers for one model: what settings say about tokens is checked against, and looked up in, its vocabulary."""

from __future__ import annotations

from localspec.errors import UsageError
from localspec.params import SamplingParams
from localspec.protocols import Constraint
from localspec.sampling.breakers import Breakers, BreakerVocabulary, find_breakers
from localspec.sampling.sampler import Sampler


class Samplers:
    """Samplers over ``vocabulary``. DRY's breakers are kept: finding them looks at every token's text once."""

    def __init__(self, vocabulary: BreakerVocabulary) -> None:
        self._vocabulary = vocabulary
        self._breakers: dict[tuple[str, ...], Breakers] = {}

    def check(self, params: SamplingParams) -> None:
        """Raise :class:`UsageError` where ``logit_bias`` names a token that is not there."""
        n_tokens = self._vocabulary.n_tokens
        for token, _ in params.biases:
            if token >= n_tokens:
                raise UsageError(f"logit_bias names token {token}; this model's ids go from 0 to {n_tokens - 1}.")

    def make(self, params: SamplingParams, constraint: Constraint | None = None) -> Sampler:
        """A sampler for one answer."""
        return Sampler(params, constraint, self._breakers_of(params))

    def _breakers_of(self, params: SamplingParams) -> Breakers | None:
        texts = tuple(params.dry_sequence_breakers)
        if not params.dries or not texts:
            return None
        if texts not in self._breakers:
            self._breakers = {texts: find_breakers(self._vocabulary, texts)}
        return self._breakers[texts]
