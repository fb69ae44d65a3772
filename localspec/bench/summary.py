"""What paired runs say: rates, the ratio with a confidence interval, acceptance, where the time went. Pure.

The ratio is that of the two rates over all pairs: (Σ tokens / Σ seconds) drafting over the same of plain decoding. Its
interval is the 95% percentile interval of a bootstrap in two stages, which takes prompts with replacement, and of each
of them pairs with replacement (Davison and Hinkley 1997, section 3.8): prompts differ more than repeats do. Few prompts
say little of how prompts differ, so it is widened as Student's interval is (Hesterberg 2015, section 5.3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np

from localspec.bench.paired import Pair, Run

_ROUNDS = 4000
_SPAN = (2.5, 97.5)
#: The normal distribution's quantile at 97.5%, and Student's with 1, 2, … degrees of freedom.
_Z, _STUDENT = 1.960, (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


@dataclass(frozen=True)
class Interval:
    """A value, and the ends of its 95% confidence interval; None where a single pair gives none."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Summary:
    """Of all pairs of a category. Rates in tokens a second; ``verify``, ``draft``, ``python``: shares of the time.

    ``plain_first_s`` and ``first_s`` are median seconds to the first token. ``same``: pairs with the same tokens.
    """

    category: str
    prompts: int
    pairs: int
    plain: float
    auto: float
    ratio: Interval
    acceptance: float | None
    mean_accepted: float | None
    verify: float
    draft: float
    python: float
    plain_first_s: float
    first_s: float
    same: int

    def record(self) -> dict[str, Any]:
        """What JSON can say."""
        return asdict(self)


def rate(runs: Sequence[Run]) -> float:
    """Tokens a second over all of ``runs``; 0 where nothing was timed."""
    seconds = sum(run.generate_s for run in runs)
    return sum(run.timed for run in runs) / seconds if seconds > 0 else 0.0


def usable(pair: Pair) -> bool:
    """Whether both runs took time that can be compared: an answer of one token has none."""
    return all(run.timed > 0 and run.generate_s > 0 for run in (pair.plain, pair.auto))


def ratio(pairs: Sequence[Pair], rounds: int = _ROUNDS, seed: int = 0) -> Interval:
    """Rate of drafting over rate of plain decoding, with its interval. ``pairs``: usable ones, at least one."""
    value = rate([pair.auto for pair in pairs]) / rate([pair.plain for pair in pairs])
    if len(pairs) < 2:
        return Interval(value, None, None)
    prompts = list(dict.fromkeys((pair.category, pair.prompt) for pair in pairs))
    repeats = [[pair for pair in pairs if (pair.category, pair.prompt) == prompt] for prompt in prompts]
    counts = np.array([len(group) for group in repeats])
    most = int(counts.max())
    table = np.zeros((len(prompts), most, 4))
    for i, group in enumerate(repeats):
        for j, pair in enumerate(group):
            table[i, j] = pair.auto.timed, pair.auto.generate_s, pair.plain.timed, pair.plain.generate_s
    random = np.random.default_rng(seed)
    which = random.integers(0, len(prompts), (rounds, len(prompts)))
    turn = (random.random((rounds, len(prompts), most)) * counts[which][:, :, None]).astype(np.intp)
    auto_n, auto_s, plain_n, plain_s = table[which[:, :, None], turn].sum(axis=(1, 2)).T
    low, high = np.percentile(np.log((auto_n / auto_s) / (plain_n / plain_s) / value), _SPAN)
    wider = _widening(len(prompts) if len(prompts) > 1 else len(pairs))
    return Interval(value, value * math.exp(wider * min(low, 0.0)), value * math.exp(wider * max(high, 0.0)))


def _widening(n: int) -> float:
    """√(n/(n−1)) · t/z, the quantiles at 97.5% and n − 1 degrees of freedom: 9.2 for two of them, 1.1 for sixteen."""
    free = n - 1
    student = _STUDENT[free - 1] if free <= len(_STUDENT) else _Z + 2.372 / free + 2.82 / free**2
    return math.sqrt(n / free) * student / _Z


def summarise(category: str, pairs: Sequence[Pair]) -> Summary:
    """Everything about some pairs. ``pairs``: usable ones, at least one."""
    plain, auto = [pair.plain for pair in pairs], [pair.auto for pair in pairs]

    def total(of: Callable[[Run], float]) -> float:
        return sum(of(run) for run in auto)

    proposed, drafted = total(lambda run: run.proposed), total(lambda run: run.drafted_steps)
    accepted, seconds = total(lambda run: run.accepted), total(lambda run: run.generate_s)
    return Summary(
        category=category,
        prompts=len({(pair.category, pair.prompt) for pair in pairs}),
        pairs=len(pairs),
        plain=rate(plain),
        auto=rate(auto),
        ratio=ratio(pairs),
        acceptance=accepted / proposed if proposed else None,
        mean_accepted=accepted / drafted if drafted else None,
        verify=total(lambda run: run.target_s) / seconds,
        draft=total(lambda run: run.draft_s) / seconds,
        python=total(lambda run: run.python_s) / seconds,
        plain_first_s=median(run.first_s for run in plain),
        first_s=median(run.first_s for run in auto),
        same=sum(pair.same for pair in pairs),
    )


def summaries(pairs: Sequence[Pair]) -> list[Summary]:
    """A summary of each category, and of all when there is more than one. Pairs that are not usable are left out."""
    kept = [pair for pair in pairs if usable(pair)]
    categories = list(dict.fromkeys(pair.category for pair in kept))
    found = [summarise(name, [pair for pair in kept if pair.category == name]) for name in categories]
    return found if len(categories) < 2 else [*found, summarise("all", kept)]
