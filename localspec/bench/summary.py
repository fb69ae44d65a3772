"""Statistics of paired runs: rates, their ratio with a confidence interval, acceptance rate, shares of the time.

The ratio is (Σ tokens / Σ seconds) with drafting over the same without. Its interval is the 95% percentile interval of
a two-stage bootstrap: draw prompts with replacement, then pairs of each prompt (Davison and Hinkley 1997, section 3.8),
because prompts differ more than repeats do. With few prompts that interval is too narrow, so it is widened by the
quantile of Student's distribution (Hesterberg 2015, section 5.3).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np

from localspec.bench.paired import Measurement, PairedRun

#: Bootstrap samples: the interval's ends then vary by less than 1% of its width between seeds.
_ROUNDS = 4000
#: Percentiles of a 95% interval.
_SPAN = (2.5, 97.5)
#: Quantile of the normal distribution at 97.5%.
_Z = 1.960
#: Quantiles of Student's distribution at 97.5% with 1, 2, … degrees of freedom.
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


@dataclass(frozen=True)
class Interval:
    """A value and the ends of its 95% confidence interval; None for a single pair."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Summary:
    """Statistics of a category's pairs.

    ``plain`` and ``auto`` are tokens a second without and with drafting; ``acceptance`` the share of draft tokens
    accepted; ``mean_accepted`` accepted tokens a drafted step; ``verify``, ``draft`` and ``python`` shares of auto's
    time; ``plain_first_s`` and ``first_s`` median seconds to the first token; ``same`` pairs with the same tokens.
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

    def to_dict(self) -> dict[str, Any]:
        """Return values for JSON."""
        return asdict(self)


def rate(runs: Sequence[Measurement]) -> float:
    """Return tokens a second over all ``runs``; 0 if none took time."""
    seconds = sum(run.generate_s for run in runs)
    return sum(run.timed for run in runs) / seconds if seconds > 0 else 0.0


def comparable(pair: PairedRun) -> bool:
    """Return True if both runs took time; an answer of one token takes none after its first token."""
    return all(run.timed > 0 and run.generate_s > 0 for run in (pair.plain, pair.auto))


def ratio(pairs: Sequence[PairedRun], rounds: int = _ROUNDS, seed: int = 0) -> Interval:
    """Return the rate with drafting over the rate without, with its interval. ``pairs``: comparable, one or more."""
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
    """Return √(n/(n−1)) · t/z with n − 1 degrees of freedom: 9.2 for n = 2, 1.1 for n = 16."""
    free = n - 1
    # Cornish-Fisher expansion of Student's quantile, exact to 0.001 from 10 degrees of freedom on
    student = _STUDENT[free - 1] if free <= len(_STUDENT) else _Z + 2.372 / free + 2.82 / free**2
    return math.sqrt(n / free) * student / _Z


def summarise(category: str, pairs: Sequence[PairedRun]) -> Summary:
    """Summarise ``pairs``: comparable, one or more."""
    plain, auto = [pair.plain for pair in pairs], [pair.auto for pair in pairs]

    def total(of: Callable[[Measurement], float]) -> float:
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


def summaries(pairs: Sequence[PairedRun]) -> list[Summary]:
    """Summarise each category's comparable pairs, and all of them if there are two categories or more."""
    kept = [pair for pair in pairs if comparable(pair)]
    categories = list(dict.fromkeys(pair.category for pair in kept))
    found = [summarise(name, [pair for pair in kept if pair.category == name]) for name in categories]
    return found if len(categories) < 2 else [*found, summarise("all", kept)]
