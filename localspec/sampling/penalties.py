"""Logit bias, repeat, presence and frequency penalties, and DRY, applied to a row in place.

Formulas are those of llama.cpp's ``src/llama-sampler.cpp`` (``llama_sampler_penalties_apply``,
``llama_sampler_dry_apply``, ``llama_sampler_logit_bias_apply``), in float32. Prompt tokens count like generated tokens,
as in llama.cpp's server.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from localspec.media.cells import text_tokens
from localspec.params import SamplingParams
from localspec.sampling.noise import Ids
from localspec.sampling.rows import Row
from localspec.sampling.sequence_breakers import SequenceBreakers

#: ln of the largest float32, in llama.cpp's digits. DRY's power stops growing there.
_FLOAT_MAX_LOG = 88.7228391


class History:
    """Tokens before a position as one array: the tokens of an answer, which only grow, then draft tokens."""

    def __init__(self) -> None:
        self._buffer = np.zeros(1024, np.int64)
        #: Length of the list that was read, with the cells of pictures and sounds, which are no tokens.
        self._read = 0
        #: Number of tokens of the answer.
        self.committed = 0
        #: Number of tokens with the draft tokens.
        self.end = 0

    def update(self, tokens: Sequence[int], ahead: Sequence[int]) -> None:
        """Append the new part of ``tokens``, and replace the draft tokens by ``ahead``."""
        read = text_tokens(tokens[self._read :])
        start, self.committed = self.committed, self.committed + len(read)
        self._read, self.end = len(tokens), self.committed + len(ahead)
        if self.end > len(self._buffer):
            self._buffer = np.concatenate((self._buffer[:start], np.zeros(2 * self.end - start, np.int64)))
        self._buffer[start : self.end] = [*read, *ahead]

    def last(self, n: int) -> Ids:
        """The last ``n`` tokens, oldest first; all of them if they are fewer."""
        return self._buffer[max(0, self.end - n) : self.end]

    def between(self, start: int, end: int) -> Ids:
        """Tokens from index ``start`` up to ``end``."""
        return self._buffer[start:end]


class Adjustment(Protocol):
    """Change to the logits of a row (n_vocab,), made in place."""

    def apply(self, row: Row, history: History) -> None: ...


def adjustments(params: SamplingParams, breakers: SequenceBreakers | None) -> list[Adjustment]:
    """The adjustments that ``params`` switch on, in llama.cpp's order."""
    found: list[Adjustment] = []
    if params.biases:
        found.append(LogitBias(params))
    if params.penalises:
        found.append(Penalties(params))
    if params.dries:
        found.append(Dry(params, breakers))
    return found


class LogitBias:
    """Constants that are added to the logits of some tokens. Ids beyond the row of a smaller drafter are left out."""

    def __init__(self, params: SamplingParams) -> None:
        ids, biases = zip(*params.biases, strict=True)
        self._ids, self._biases = np.array(ids, np.int64), np.array(biases, np.float32)

    def apply(self, row: Row, history: History) -> None:
        known = int(np.searchsorted(self._ids, len(row)))
        row[self._ids[:known]] += self._biases[:known]


class Penalties:
    """Repeat, presence and frequency penalties over the last ``repeat_last_n`` tokens."""

    def __init__(self, params: SamplingParams) -> None:
        self._n = params.repeat_last_n
        self._repeat = np.float32(params.repeat_penalty)
        self._presence, self._frequency = np.float32(params.presence_penalty), np.float32(params.frequency_penalty)
        self._counts = _Counts(params.repeat_last_n)

    def apply(self, row: Row, history: History) -> None:
        ids = history.last(self._n)
        counts = self._counts.count(ids, history) if self._frequency else np.float32(1)
        if len(ids) and ids.max() >= len(row):  # the row of a drafter lacks the target's last tokens
            known = ids < len(row)
            ids, counts = ids[known], counts[known] if self._frequency else counts
        logits = row[ids]  # a copy: a token that occurs twice is computed twice, from its unchanged logit
        logits = np.where(logits <= 0, logits * self._repeat, logits / self._repeat)
        row[ids] = logits - (counts * self._frequency + self._presence)


class _Counts:
    """Number of occurrences of each token among the last ``n`` tokens. An update costs time for the new tokens only."""

    def __init__(self, n: int) -> None:
        self._n, self._start, self._end = n, 0, 0
        self._counts = np.zeros(1, np.int32)

    def count(self, ids: Ids, history: History) -> NDArray[np.float32]:
        """Counts of ``ids``, which are the last ``n`` of the history."""
        self._move(history, max(0, history.committed - self._n), history.committed)
        committed = self._start, self._end
        self._move(history, max(0, history.end - self._n), history.end)
        counts = self._counts[ids].astype(np.float32)
        self._move(history, *committed)  # the draft tokens may be others at the next call
        return counts

    def _move(self, history: History, start: int, end: int) -> None:
        """Move the window to [start, end)."""
        for at, to, sign in ((self._end, end, 1), (self._start, start, -1)):
            passed = history.between(min(at, to), max(at, to))
            if len(passed):
                if passed.max() >= len(self._counts):
                    self._counts = np.concatenate((self._counts, np.zeros(int(passed.max()) + 1, np.int32)))
                np.add.at(self._counts, passed, sign if to > at else -sign)
        self._start, self._end = start, end


class Dry:
    """Don't Repeat Yourself (pi6am, p-e-w): lower a token that would extend a repetition by ``multiplier · base^n``.

    ``n`` is the length of the repetition beyond ``dry_allowed_length``, within the last ``dry_penalty_last_n`` tokens.
    A repetition does not reach across a sequence breaker.
    """

    def __init__(self, params: SamplingParams, breakers: SequenceBreakers | None) -> None:
        self._n, self._allowed = params.dry_penalty_last_n, params.dry_allowed_length
        self._multiplier, self._base = float(np.float32(params.dry_multiplier)), float(np.float32(params.dry_base))
        self._most = int(_FLOAT_MAX_LOG / math.log(self._base)) if self._base > 1.000001 else 0
        self._breakers = breakers

    def apply(self, row: Row, history: History) -> None:
        window = history.last(self._n)
        if len(window) <= self._allowed:
            return
        limit = len(window) if self._breakers is None else self._breakers.tokens_since(window)
        if limit < self._allowed:
            return
        lengths = repetitions(window, min(limit, self._allowed + self._most) if self._most else limit)
        extending = np.flatnonzero(lengths >= self._allowed)
        ids, lengths = window[extending + 1], lengths[extending]
        free = ids < len(row)
        if self._breakers is not None:
            free &= ~self._breakers.single[ids]
        order = np.argsort(lengths[free], kind="stable")  # the longest repetition of a token is written last
        ids, over = ids[free][order], lengths[free][order] - self._allowed
        powers = np.array([self._base ** int(n) for n in over.tolist()])
        with np.errstate(over="ignore"):  # an overflow of float32 forbids the token, as in llama.cpp
            row[ids] = row[ids] - (self._multiplier * powers).astype(np.float32)


def repetitions(window: Ids, cap: int) -> NDArray[Any]:
    """Length, at most ``cap``, of the common suffix of ``window[: i + 1]`` and ``window``, for each i but the last."""
    n = len(window)
    lengths = np.zeros(n - 1, np.int64)
    alive, length = np.flatnonzero(window[:-1] == window[-1]), 0
    while len(alive) and length < cap:
        length += 1
        lengths[alive] = length
        alive = alive[alive >= length]
        alive = alive[window[alive - length] == window[n - 1 - length]]
    return lengths
