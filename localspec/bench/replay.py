"""Plays traces again at given costs: the real loop, drafters and control, on models that read from the record.

Nothing is decoded; a clock of the replayed models advances by what the passes would have cost. So a pair can be tried
on a machine that is not at hand, and any fixed choice compared with the automatic one.
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
from localspec.draft.base import Drafter, Guess, Prefix, common_length
from localspec.draft.model import ModelDrafter
from localspec.draft.mtp import MtpDrafter
from localspec.draft.ngram import NgramDrafter
from localspec.errors import InputError
from localspec.generation.guard import Guard
from localspec.generation.loop import Rules, decode
from localspec.generation.stats import Stats
from localspec.params import MAX_VERIFY_WIDTH, SamplingParams
from localspec.protocols import Outputs, Rows, output_rows
from localspec.sampling import Sampler

#: Where a drafter is off the text nothing is recorded: it is about as sure as drafters are of wrong guesses.
_ASTRAY = 0.5
#: Depths of the fixed choices that the automatic one is compared with.
DEPTHS = (1, 2, 3, 4, 5, 7, 11, 15, 31)


@dataclass(frozen=True)
class Outcome:
    """A replayed answer: ``tokens`` in ``seconds``, the prompt left out."""

    tokens: int
    seconds: float
    stats: Stats

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.seconds if self.seconds else 0.0


class _Words:
    """The tokens of a trace, numbered densely; 0 is any other."""

    def __init__(self, trace: Trace) -> None:
        guessed = (guess.token for chains in trace.guesses.values() for chain in chains for guess in chain)
        self._ids = {token: i for i, token in enumerate(dict.fromkeys((*trace.prompt, *trace.tokens, *guessed)), 1)}
        self.count = len(self._ids) + 1
        self.prompt, self.answer = self.numbers(trace.prompt), self.numbers(trace.tokens)
        self.text = [*self.prompt, *self.answer]

    def numbers(self, tokens: Iterable[int]) -> list[int]:
        return [self._ids.get(token, 0) for token in tokens]

    def row(self, token: int, sure: float = 0.999) -> Rows:
        """Logits (count,) that say ``token`` with the probability ``sure``."""
        row = np.zeros(self.count, np.float32)
        sure = min(max(sure, 1e-6), 1.0 - 1e-6)
        row[token] = max(1e-3, math.log(sure / (1.0 - sure) * (self.count - 1)))
        return row


class _Replayed:
    """A context whose rows are read from a record, and whose passes take what ``curve`` says."""

    n_ctx = 1 << 30

    def __init__(self, words: _Words, curve: Curve, said: Callable[[int], tuple[int, float]]) -> None:
        self.tokens: list[int] = []
        self.decode_s = 0.0
        self._words, self._curve, self._said = words, curve, said

    def decode(self, tokens: Sequence[int], outputs: Outputs = "all") -> Rows:
        self.decode_s += self._curve.seconds(len(tokens), len(self.tokens))
        self.tokens.extend(tokens)
        n, count = len(self.tokens), output_rows(outputs, len(tokens))
        true = common_length(self.tokens, self._words.text)
        rows = [
            self._words.row(*(self._said(at) if at <= true else (0, _ASTRAY))) for at in range(n - count + 1, n + 1)
        ]
        return np.array(rows, np.float32).reshape(count, self._words.count)

    def hidden(self) -> Rows:
        return np.zeros((MAX_VERIFY_WIDTH, 1), np.float32)

    def rewind(self, length: int) -> None:
        del self.tokens[length:]

    def identity(self) -> str:
        return "replayed"

    def state(self) -> bytes:
        raise NotImplementedError

    def restore(self, state: bytes, tokens: Sequence[int]) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Nothing to free."""


class _ReplayedMtp:
    """An assistant that says the recorded chain of the position that it is asked at."""

    def __init__(self, words: _Words, step: float, chains: Sequence[Sequence[Guess]]) -> None:
        self.decode_s = 0.0
        self._words, self._step, self._chains = words, step, chains
        self._at = (-1, 0)

    def step(self, token: int, position: int, hidden: NDArray[Any]) -> Rows:
        self.decode_s += self._step
        depth = 0 if hidden[0] == 0.0 else int(hidden[0])
        self._at = (position, depth)
        i = position + 1 - len(self._words.prompt)
        chain = self._chains[i] if 0 <= i < len(self._chains) else ()
        guess = chain[depth] if depth < len(chain) else Guess(-1, _ASTRAY)
        return self._words.row(self._words.numbers([guess.token])[0], guess.confidence)[None]

    def hidden(self) -> Rows:
        return np.full((1, 1), self._at[1] + 1.0, np.float32)

    def close(self) -> None:
        """Nothing to free."""


def replay(trace: Trace, costs: Costs, control: Control, *, sources: Sequence[str], widest: int = 64) -> Outcome:
    """What ``control`` would have made of ``trace`` at ``costs``, with the drafters ``sources``.

    Passes are at most ``widest`` wide. Raises :class:`InputError` for a drafter that trace or costs do not have.
    """
    words = _Words(trace)
    start, end = len(words.prompt), len(words.text)

    def true(at: int) -> tuple[int, float]:
        sure = trace.sure[at - start] if start <= at < start + len(trace.sure) else 0.999
        return (words.text[at] if at < end else 0), sure

    target = _Replayed(words, costs.verify, true)
    target.tokens = words.prompt[:-1]
    drafters = [_drafter(name, trace, costs, words) for name in sources]
    prefix, stats = Prefix(list(words.prompt), Sampler(SamplingParams(temperature=0.0))), Stats()
    mtp = "mtp" in sources
    if mtp:
        prefix.hidden = np.zeros(1, np.float32)
    left = len(words.answer)
    control.begin()
    rules = Rules(lambda _: False, lambda: left, control, reads_hidden=mtp, guard=Guard(widest=widest))
    rows = target.decode(words.prompt[-1:], "last")
    for drafter in drafters:
        drafter.observe(prefix)
    steps = decode(target, prefix, rows, drafters, rules)
    while left > 0:
        step = next(steps)
        left -= len(step.tokens)
        stats.record(step.draft.names[: step.proposed], step.accepted)
    seconds = target.decode_s + sum(drafter.decode_s for drafter in drafters) + stats.steps * costs.python
    return Outcome(len(words.answer), seconds, stats)


def _drafter(name: str, trace: Trace, costs: Costs, words: _Words) -> Drafter:
    if name == "ngram":
        return NgramDrafter()
    if name not in trace.guesses or name not in costs.drafters:
        raise InputError(f"there is no record or no cost of the drafter {name!r}; record and tune with it loaded.")
    chains, cost = trace.guesses[name], costs.drafters[name]
    if name == "mtp":
        return MtpDrafter(_ReplayedMtp(words, cost.step, chains))
    start = len(words.prompt)

    def said(at: int) -> tuple[int, float]:
        chain = chains[at - start] if 0 <= at - start < len(chains) else ()
        return (words.numbers([chain[0].token])[0], chain[0].confidence) if chain else (0, _ASTRAY)

    return ModelDrafter(_Replayed(words, cost.first, said), 1 << 30, words.count)


def automatic(trace: Trace, costs: Costs, *, sources: Sequence[str], widest: int = 64) -> Outcome:
    """The automatic control, which knows the costs and nothing of the text."""
    return replay(trace, costs, Controller(costs, widest), sources=sources, widest=widest)


def best_fixed(trace: Trace, costs: Costs, *, sources: Sequence[str], widest: int = 64) -> tuple[str, Outcome]:
    """The best in hindsight of one drafter at one depth for all of the answer, and of none."""
    found = [("none", replay(trace, costs, FixedDepth(0), sources=(), widest=widest))]
    for name in sources:
        for depth in DEPTHS:
            if depth < widest:
                done = replay(trace, costs, FixedDepth(depth), sources=[name], widest=widest)
                found.append((f"{name} {depth}", done))
    return max(found, key=lambda choice: choice[1].tokens_per_s)
