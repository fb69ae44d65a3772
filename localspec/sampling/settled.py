"""Whether a choice is sure although logits are known only up to some noise.

Two computations of one row may differ a little (a row of a batch and a single row). Let every difference between two
logits be off by at most ``noise``. Truncation then leaves at least the *sure* tokens and at most the *possible* ones,
which are followed through the chain. The choice is settled when one sure token beats every possible one in perturbed
score by more than the noise. Every bound is on the safe side; the property is tested with random perturbations.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from localspec.params import SamplingParams
from localspec.sampling.noise import Floats, Ids, gumbel
from localspec.sampling.race import contenders
from localspec.sampling.rows import LOWEST, Row, largest, nucleus_candidates, spread
from localspec.sampling.truncation import Survivors, surprise, temperature

_Flags = NDArray[np.bool_]
#: Added to the noise, relatively and absolutely: more than the rounding of any sum of probabilities.
_ROUNDING = 2e-6


def settled(row: Row, params: SamplingParams, position: int, noise: float, excluding: bool) -> bool:
    """Whether :meth:`Sampler.choose` surely gives the same for every row within ``noise`` of the shaped ``row``.

    ``params`` have their seed; ``excluding`` says that XTC acts at ``position``.
    """
    if params.greedy:
        first = int(row.argmax())
        others = [part.max() for part in (row[:first], row[first + 1 :]) if len(part)]
        return not others or bool(row[first] - max(others) > noise)
    if row.max() == -np.inf:
        return True
    noise = noise * (1 + _ROUNDING) + _ROUNDING
    seed = params.seed or 0
    if not params.truncates and params.dynatemp_range == 0.0:
        lead = noise / params.temperature
        found = contenders(row, params.temperature, seed, position, lead)[1]
        return len(found) == 1 or bool(np.diff(np.partition(found, len(found) - 2)[-2:])[0] > lead)
    bounds = _Bounds(row, params, noise)
    bounds.follow(excluding)
    if np.count_nonzero(bounds.possible) == 1:
        return True  # something always survives
    return _wins(bounds, bounds.temperatures(), noise, gumbel(seed, position, bounds.ids[bounds.possible]))


def _wins(bounds: _Bounds, ends: set[float], noise: float, luck: Floats) -> bool:
    """Whether one sure token leads at every temperature between ``ends``: at both, as leads are linear in it."""
    winners = set()
    for heat in ends:
        scores = bounds.values[bounds.possible] + heat * luck
        best = int(scores.argmax())
        rivals = np.delete(scores, best)
        if scores[best] - rivals.max() <= noise:
            return False
        winners.add(best)
    return len(winners) == 1 and bool(bounds.sure[bounds.possible][best])


class _Bounds:
    """Tokens by falling logit, which of them surely survive and which possibly.

    ``values`` are relative to the largest; ``rest`` is the weight (e^value) of all tokens still there but not listed.
    """

    def __init__(self, row: Row, params: SamplingParams, noise: float) -> None:
        self._params, self._noise, self._factor = params, noise, math.exp(min(noise, 700.0))
        peak = float(row.max())
        self._size = min(params.top_k or len(row), len(row))
        self._gaps = self._sigma_gaps(row)
        ids, self.rest = self._listed(row, peak)
        values = row[ids].astype(np.float64) - peak
        order = np.argsort(-values, kind="stable")
        self.ids, self.values = ids[order], values[order]
        self.sure: _Flags = -self.values <= self._gaps[0]
        self.sure[:1] |= len(self.values) == 1 or bool(self.values[0] - self.values[1] > noise)
        self.possible: _Flags = -self.values <= self._gaps[1]

    def _sigma_gaps(self, row: Row) -> tuple[float, float]:
        """How far behind the maximum top-n-sigma surely, and possibly, leaves a token: σ moves by half the noise."""
        n = self._params.top_n_sigma
        if n <= 0.0:
            return math.inf, math.inf
        sigma = spread(row)
        return n * max(0.0, sigma - self._noise / 2) - self._noise, n * (sigma + self._noise / 2) + self._noise

    def _listed(self, row: Row, peak: float) -> tuple[Ids, float]:
        """Ids among which is every possible survivor of the next sampler, and the weight of all others that it sees."""
        params, noise = self._params, self._noise
        floor = max(LOWEST, peak - self._gaps[1])
        if params.top_k and params.top_k < len(row):
            ids = largest(row, params.top_k, noise)
            return ids[row[ids] >= floor], 0.0
        if params.typical_p == 1.0 and params.top_p < 1.0 and params.top_n_sigma <= 0.0:
            odds = self._factor**2 * params.top_p
            ids, total = nucleus_candidates(row, odds / (odds + 1.0 - params.top_p), floor, noise)
            held = float(np.exp(row[ids].astype(np.float64) - peak).sum())
            return ids, max(0.0, math.exp(total - peak) - held)
        if params.typical_p == 1.0 and params.min_p > 0.0:
            floor = max(floor, peak + math.log(params.min_p) - noise)
        return np.flatnonzero(row >= floor), 0.0

    def follow(self, excluding: bool) -> None:
        """Go through the chain after top-n-sigma."""
        params = self._params
        if params.top_k:
            self._top_k(params.top_k)
        if params.typical_p < 1.0:
            self._typical(params.typical_p)
        if params.top_p < 1.0:
            self._top_p(params.top_p)
        if params.min_p > 0.0:
            self._min_p(-math.log(params.min_p))
        if params.typical_p < 1.0 or params.top_p < 1.0 or params.min_p > 0.0:
            self._size = int(np.count_nonzero(self.possible))
        if excluding:
            self._xtc(params.xtc_threshold)

    def _keep(self, sure: _Flags, possible: _Flags) -> None:
        """Narrow down; whatever the threshold, a sampler leaves the token that is the likeliest of those it gets."""
        left = self.values[self.possible]
        alone = len(left) == 1 or bool(left[0] - left[1] > self._noise)
        surely_first = (self.values == left[0]) if alone else np.zeros_like(self.sure)
        least = self.values[self.sure][:1] - self._noise  # the likeliest is no lower than the first sure one
        maybe_first = self.values >= least[0] if len(least) else np.ones_like(self.sure)
        self.sure = self.sure & (sure | surely_first)
        self.possible = self.possible & (possible | maybe_first)

    def _top_k(self, k: int) -> None:
        sure, possible = self.values[self.sure], self.values[self.possible]
        surely = self.values > possible[k] + self._noise if len(possible) > k else np.ones_like(self.sure)
        possibly = self.values >= sure[k - 1] - self._noise if len(sure) >= k else np.ones_like(self.sure)
        self._keep(surely, possibly)

    def _top_p(self, p: float) -> None:
        """A token stays while those before it hold less than ``p``: bounds on who they are and what they weigh."""
        weights = np.exp(self.values)
        most = np.concatenate(((0.0,), np.cumsum(np.where(self.possible, weights, 0.0))))
        least = np.concatenate(((0.0,), np.cumsum(np.where(self.sure, weights, 0.0))))
        before = np.searchsorted(-self.values, -(self.values + self._noise), side="left")
        behind = np.searchsorted(-self.values, -(self.values - self._noise), side="right")
        # at most: all possible ones down to the noise below it, but itself, against the sure ones further down
        ahead = self._factor * (most[behind] - weights * self.possible)
        share = ahead / (ahead + weights + least[-1] - least[behind] + self.rest)
        # at least: the sure ones above by more than the noise, against the possible ones from there down
        sure_ahead = least[before]
        low = sure_ahead / (sure_ahead + self._factor * (most[-1] - most[before] + self.rest))
        self._keep(share < p, low < p)
        self.rest = 0.0

    def _min_p(self, gap: float) -> None:
        """By the distance to the likeliest: at most that to the first possible one, at least to the first sure one."""
        top = self.values[self.possible][0]
        sure = self.values[self.sure]
        surely = top - self.values + self._noise <= gap
        possibly = sure[0] - self.values - self._noise <= gap if len(sure) else np.ones_like(self.sure)
        self._keep(surely, possibly)

    def _typical(self, p: float) -> None:
        """Only where it is known which tokens are left: then log probabilities move by the noise at most."""
        if not self._known():
            self.sure = np.zeros_like(self.sure)
            return
        at = np.flatnonzero(self.possible)
        mass, unlike = surprise(self.values[at])
        move = 2 * self._noise * (1 + _deviation(len(at)) / 2) + 1e-5
        order = np.argsort(unlike, kind="stable")
        held = np.concatenate(((0.0,), np.cumsum(mass[order])))
        ranked = unlike[order]
        most = held[np.searchsorted(ranked, unlike + move, side="right")] - mass
        least = held[np.searchsorted(ranked, unlike - move, side="left")]
        surely, possibly = np.zeros_like(self.sure), np.zeros_like(self.sure)
        surely[at] = most * self._factor + 1e-6 <= p
        possibly[at] = least / self._factor - 1e-6 <= p
        self.sure, self.possible = surely, possibly

    def _xtc(self, threshold: float) -> None:
        """Only where it is clear which tokens reach the threshold, and which of them is last."""
        weights = np.exp(self.values)
        possible, sure = weights[self.possible].sum() + self.rest, weights[self.sure].sum() + self.rest
        low = weights / (weights + self._factor * (possible - weights * self.possible))
        high = self._factor * weights / (self._factor * weights + np.maximum(sure - weights * self.sure, 0.0))
        reaching = self.possible & (high >= threshold)
        count = int(np.count_nonzero(reaching))
        clear = bool((self.sure[reaching]).all() and (low[reaching] >= threshold).all())
        if count < 2 and clear:
            return
        values = self.values[reaching]
        if not clear or values[-2] - values[-1] <= self._noise:
            self.sure = np.zeros_like(self.sure)
            return
        gone = reaching.copy()
        gone[np.flatnonzero(reaching)[-1]] = False
        self._size -= count - 1
        self.sure, self.possible = self.sure & ~gone, self.possible & ~gone

    def temperatures(self) -> set[float]:
        """The lowest and the highest temperature that there may be."""
        heat, reach = self._params.temperature, self._params.dynatemp_range
        if reach == 0.0 or not self._known():
            return {max(0.0, heat - reach), heat + reach}
        kept = Survivors(self.ids[self.possible], self.values[self.possible], self._size)
        move = self._noise * _deviation(len(kept.ids)) / 2 + _ROUNDING
        return {temperature(kept, self._params, -move), temperature(kept, self._params, move)}

    def _known(self) -> bool:
        """Whether it is sure which tokens are left."""
        return bool((self.sure == self.possible).all())


def _deviation(n: int) -> float:
    """Largest standard deviation that the surprise of ``n`` outcomes can have (Reeb and Wolf, arXiv 1304.0036).

    When log probabilities are tilted by at most the noise, the entropy moves by at most half the noise times this.
    """
    return math.sqrt(math.log(max(n - 1, 1)) ** 2 / 4 + 1)
