"""Compare samples with a target's distribution: its tree of probabilities, and Pearson's chi-square."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

Logits = Callable[[tuple[int, ...]], NDArray[np.float32]]
Path = tuple[int, ...]

#: By drafter, a prompt after which its second token is nearly always drafted and about as often right as wrong: n-gram
#: lookup drafts " grumpy" (probability 0.45), the assistant a name (0.47).
PROMPTS = {
    "ngram": "Once upon a time there was a grumpy girl named Rosa. Rosa lived in a small white "
    "Once upon a time there was",
    "mtp": "Once upon a time there was a grumpy girl",
}
#: What a bin must be expected to hold for chi-square to be chi-square.
_EXPECTED = 8.0


def distribution(row: NDArray[np.float32], top_p: float) -> NDArray[np.float64]:
    """Softmax at temperature 1, cut to the fewest likeliest tokens that together hold ``top_p``."""
    weights = np.exp(row.astype(np.float64) - float(row.max()))
    weights /= weights.sum()
    if top_p < 1.0:
        order = np.argsort(-weights, kind="stable")
        held = np.cumsum(weights[order])
        weights[order[int(np.searchsorted(held, top_p)) + 1 :]] = 0.0
        weights /= weights.sum()
    return weights


def tree(logits: Logits, length: int, top_p: float, samples: int, is_end: Callable[[int], bool]) -> dict[Path, float]:
    """Continuations of ``length`` tokens, fewer before an end token, that ``samples`` should hold often enough."""
    found: dict[Path, float] = {}

    def walk(path: Path, chance: float) -> None:
        if len(path) == length or (path and is_end(path[-1])):
            ended = path[:-1] if is_end(path[-1]) else path
            found[ended] = found.get(ended, 0.0) + chance
            return
        chances = distribution(logits(path), top_p) * chance
        for token in np.flatnonzero(chances * samples >= _EXPECTED).tolist():
            walk((*path, token), float(chances[token]))

    walk((), 1.0)
    return found


def p_value(counts: Mapping[Path, int], expected: Mapping[Path, float]) -> float:
    """Chance of a chi-square at least this large, the rare outcomes pooled (Wilson and Hilferty 1931)."""
    total = sum(counts.values())
    bins = [(counts.get(path, 0), chance * total) for path, chance in expected.items()]
    rest = total * (1.0 - sum(expected.values()))
    bins.append((total - sum(count for count, _ in bins), max(rest, 1e-9)))
    square = sum((count - hoped) ** 2 / hoped for count, hoped in bins if hoped > 1e-9 or count)
    freedom = len(bins) - 1
    z = ((square / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / math.sqrt(2 / (9 * freedom))
    return 0.5 * math.erfc(z / math.sqrt(2))


def cut(tokens: Sequence[int], length: int, is_end: Callable[[int], bool]) -> Path:
    """The first ``length`` of ``tokens``; an end token, and what follows it, is left out."""
    return tuple(takewhile(lambda token: not is_end(token), tokens[:length]))
