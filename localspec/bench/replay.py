"""Replay traces at given costs: the real loop, drafters and control, on models that read from the trace.

Nothing is decoded. Each pass advances the models' clock by its cost on the curve. This tests a pair for a machine that
is not at hand, and compares the automatic control with any fixed choice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localspec.bench.trace import Trace
from localspec.control.base import Control, FixedDepth
from localspec.control.controller import Controller
from localspec.control.costs import Costs, Curve
from localspec.draft.base import Drafter, Guess, Prefix
from localspec.draft.model import ModelDrafter
from localspec.draft.mtp import MtpDrafter
from localspec.draft.ngram import NgramDrafter
from localspec.errors import InputError
from localspec.generation.loop import Rules, decode, drive
from localspec.generation.passes import PassShape
from localspec.generation.stats import Stats
from localspec.params import MAX_VERIFY_WIDTH, SamplingParams
from localspec.protocols import UNBOUNDED, Outputs, Rows, common_length, output_rows
from localspec.sampling import Sampler

#: Confidence of a drafter after a wrong guess of its own, where the trace has no record: that of wrong guesses.
_OFF_TEXT = 0.5
#: Confidence of the target where the trace has none.
_TARGET = 0.999
#: Depths of the fixed choices that the automatic one is compared with.
DEPTHS = (1, 2, 3, 4, 5, 7, 11, 15, 31)


@dataclass(frozen=True)
class ReplayedAnswer:
    """A replayed answer: ``tokens`` in ``seconds``, without the prompt."""

    tokens: int
    seconds: float
    stats: Stats

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.seconds if self.seconds else 0.0


class _TraceVocabulary:
    """The tokens of a trace, numbered densely; 0 stands for every other token."""

    def __init__(self, trace: Trace) -> None:
        guessed = (guess.token for chains in trace.guesses.values() for chain in chains for guess in chain)
        self._ids = {token: i for i, token in enumerate(dict.fromkeys((*trace.prompt, *trace.tokens, *guessed)), 1)}
        self.count = len(self._ids) + 1
        self.prompt, self.answer = self.numbers(trace.prompt), self.numbers(trace.tokens)
        self.text = [*self.prompt, *self.answer]

    def numbers(self, tokens: Iterable[int]) -> list[int]:
        return [self._ids.get(token, 0) for token in tokens]

    def row(self, token: int, confidence: float = _TARGET) -> Rows:
        """Return logits (count,) that give ``token`` the probability ``confidence``."""
        row = np.zeros(self.count, np.float32)
        confidence = min(max(confidence, 1e-6), 1.0 - 1e-6)
        row[token] = max(1e-3, math.log(confidence / (1.0 - confidence) * (self.count - 1)))
        return row


class _ReplayedContext:
    """A context whose rows come from ``recorded`` (position → token, confidence) and whose passes cost ``curve``."""

    n_ctx, rollback = 1 << 30, UNBOUNDED

    def __init__(
        self, vocabulary: _TraceVocabulary, curve: Curve, recorded: Callable[[int], tuple[int, float]]
    ) -> None:
        self.tokens: list[int] = []
        self.decode_s = 0.0
        self._vocabulary, self._curve, self._recorded = vocabulary, curve, recorded

    def decode(self, tokens: Sequence[int], outputs: Outputs = "all") -> Rows:
        self.decode_s += self._curve.seconds(len(tokens), len(self.tokens))
        self.tokens.extend(tokens)
        n, count = len(self.tokens), output_rows(outputs, len(tokens))
        true = common_length(self.tokens, self._vocabulary.text)
        rows = [
            self._vocabulary.row(*(self._recorded(at) if at <= true else (0, _OFF_TEXT)))
            for at in range(n - count + 1, n + 1)
        ]
        return np.array(rows, np.float32).reshape(count, self._vocabulary.count)

    def hidden(self) -> Rows:
        return np.zeros((MAX_VERIFY_WIDTH, 1), np.float32)

    def rewind(self, length: int) -> None:
        del self.tokens[length:]

    def reach(self, length: int) -> int:
        return length

    def mark(self, *, brief: bool = False) -> None:
        """Do nothing: every token can be taken back."""

    def identity(self) -> str:
        return "replayed"

    def state(self) -> bytes:
        raise NotImplementedError

    def restore(self, state: bytes, tokens: Sequence[int]) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Free nothing."""


class _ReplayedAssistant:
    """An MTP assistant that returns the recorded chain of the position."""

    def __init__(self, vocabulary: _TraceVocabulary, step: float, chains: Sequence[Sequence[Guess]]) -> None:
        self.decode_s = 0.0
        self._vocabulary, self._step, self._chains = vocabulary, step, chains
        self._at = (-1, 0)

    def step(self, token: int, position: int, hidden: NDArray[Any]) -> Rows:
        self.decode_s += self._step
        depth = 0 if hidden[0] == 0.0 else int(hidden[0])
        self._at = (position, depth)
        i = position + 1 - len(self._vocabulary.prompt)
        chain = self._chains[i] if 0 <= i < len(self._chains) else ()
        guess = chain[depth] if depth < len(chain) else Guess(-1, _OFF_TEXT)
        return self._vocabulary.row(self._vocabulary.numbers([guess.token])[0], guess.confidence)[None]

    def hidden(self) -> Rows:
        return np.full((1, 1), self._at[1] + 1.0, np.float32)  # the depth in the chain, for the next step

    def close(self) -> None:
        """Free nothing."""


def replay(trace: Trace, costs: Costs, control: Control, *, sources: Sequence[str], widest: int = 64) -> ReplayedAnswer:
    """Replay ``trace`` at ``costs`` under ``control`` with the drafters ``sources``.

    Passes are at most ``widest`` tokens wide. Raises :class:`InputError` for a drafter without a record or costs.
    """
    vocabulary = _TraceVocabulary(trace)
    start, end = len(vocabulary.prompt), len(vocabulary.text)

    def recorded(at: int) -> tuple[int, float]:
        confidence = trace.confidence[at - start] if start <= at < start + len(trace.confidence) else _TARGET
        return (vocabulary.text[at] if at < end else 0), confidence

    target = _ReplayedContext(vocabulary, costs.verify, recorded)
    target.tokens = vocabulary.prompt[:-1]
    drafters = [_drafter(name, trace, costs, vocabulary) for name in sources]
    prefix, stats = Prefix(list(vocabulary.prompt), Sampler(SamplingParams(temperature=0.0))), Stats()
    mtp = "mtp" in sources
    if mtp:
        prefix.hidden = np.zeros(1, np.float32)
    left = len(vocabulary.answer)
    control.begin()
    rules = Rules(lambda _: False, lambda: left, control, reads_hidden=mtp, passes=PassShape(widest))
    rows = target.decode(vocabulary.prompt[-1:], "last")
    for drafter in drafters:
        drafter.observe(prefix)
    steps = drive(target, decode(target, prefix, rows, drafters, rules))
    while left > 0:
        step = next(steps)
        left -= len(step.tokens)
        stats.record(step.draft.names[: step.proposed], step.accepted)
    seconds = target.decode_s + sum(drafter.decode_s for drafter in drafters) + stats.steps * costs.python
    return ReplayedAnswer(len(vocabulary.answer), seconds, stats)


def _drafter(name: str, trace: Trace, costs: Costs, vocabulary: _TraceVocabulary) -> Drafter:
    if name == "ngram":
        return NgramDrafter()
    if name not in trace.guesses or name not in costs.drafters:
        raise InputError(f"there is no record or no cost of the drafter {name!r}; record and tune with it loaded.")
    chains, cost = trace.guesses[name], costs.drafters[name]
    if name == "mtp":
        return MtpDrafter(_ReplayedAssistant(vocabulary, cost.step, chains))
    start = len(vocabulary.prompt)

    def recorded(at: int) -> tuple[int, float]:
        chain = chains[at - start] if 0 <= at - start < len(chains) else ()
        return (vocabulary.numbers([chain[0].token])[0], chain[0].confidence) if chain else (0, _OFF_TEXT)

    return ModelDrafter(_ReplayedContext(vocabulary, cost.first, recorded), 1 << 30, vocabulary.count)


def automatic(trace: Trace, costs: Costs, *, sources: Sequence[str], widest: int = 64) -> ReplayedAnswer:
    """Replay ``trace`` under the automatic control, which is given the costs and nothing of the text."""
    return replay(trace, costs, Controller(costs, widest), sources=sources, widest=widest)


def best_fixed(trace: Trace, costs: Costs, *, sources: Sequence[str], widest: int = 64) -> tuple[str, ReplayedAnswer]:
    """Return the fastest fixed choice in hindsight: one drafter at one depth for the whole answer, or none."""
    found = [("none", replay(trace, costs, FixedDepth(0), sources=(), widest=widest))]
    for name in sources:
        for depth in DEPTHS:
            if depth < widest:
                done = replay(trace, costs, FixedDepth(depth), sources=[name], widest=widest)
                found.append((f"{name} {depth}", done))
    return max(found, key=lambda choice: choice[1].tokens_per_s)
