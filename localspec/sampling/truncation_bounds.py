"""Bounds on truncation under perturbation: tokens that are certainly left, and tokens that are possibly left."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from localspec.params import SamplingParams
from localspec.sampling.noise import Ids
from localspec.sampling.rows import LOWEST_FINITE, Row, largest, nucleus_candidates, standard_deviation
from localspec.sampling.truncation import Candidates, surprisal_distance, temperature

Flags = NDArray[np.bool_]

#: Added to the noise, relatively and absolutely: more than the rounding of any sum of probabilities.
ROUNDING = 2e-6


class TruncationBounds:
    """Tokens by falling logit, with the flags ``certain`` and ``possible``.

    Each difference between two logits may change by at most ``noise``. ``values`` are logits relative to the largest.
    ``unlisted`` is the mass, Σ e^value, of the tokens that are left but not listed.
    """

    def __init__(self, row: Row, params: SamplingParams, noise: float) -> None:
        self._params, self._noise = params, noise
        #: Largest change of a ratio of two probabilities.
        self._factor = math.exp(min(noise, 700.0))
        peak = float(row.max())
        self._size = min(params.top_k or len(row), len(row))
        certain_gap, self._possible_gap = self._sigma_gaps(row)
        ids, self.unlisted = self._first_cut(row, peak)
        values = row[ids].astype(np.float64) - peak
        order = np.argsort(-values, kind="stable")
        self.ids, self.values = ids[order], values[order]
        self.certain: Flags = -self.values <= certain_gap
        self.certain[:1] |= len(self.values) == 1 or bool(self.values[0] - self.values[1] > noise)
        self.possible: Flags = -self.values <= self._possible_gap

    def _sigma_gaps(self, row: Row) -> tuple[float, float]:
        """Distances from the maximum within which top-n-sigma certainly, and possibly, leaves a token.

        σ changes by at most half the noise.
        """
        n = self._params.top_n_sigma
        if n <= 0.0:
            return math.inf, math.inf
        sigma = standard_deviation(row)
        return n * max(0.0, sigma - self._noise / 2) - self._noise, n * (sigma + self._noise / 2) + self._noise

    def _first_cut(self, row: Row, peak: float) -> tuple[Ids, float]:
        """Ids of all tokens that the first two samplers possibly leave, and the mass of the other tokens."""
        params, noise = self._params, self._noise
        floor = max(LOWEST_FINITE, peak - self._possible_gap)
        if params.top_k and params.top_k < len(row):
            ids = largest(row, params.top_k, noise)
            return ids[row[ids] >= floor], 0.0
        if params.typical_p == 1.0 and params.top_p < 1.0 and params.top_n_sigma <= 0.0:
            odds = self._factor**2 * params.top_p
            ids, total = nucleus_candidates(row, odds / (odds + 1.0 - params.top_p), floor, noise)
            listed = float(np.exp(row[ids].astype(np.float64) - peak).sum())
            return ids, max(0.0, math.exp(total - peak) - listed)
        if params.typical_p == 1.0 and params.min_p > 0.0:
            floor = max(floor, peak + math.log(params.min_p) - noise)
        return np.flatnonzero(row >= floor), 0.0

    def apply_chain(self, xtc_acts: bool) -> None:
        """Apply the samplers after top-n-sigma."""
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
        if xtc_acts:
            self._xtc(params.xtc_threshold)

    def _keep(self, certain: Flags, possible: Flags) -> None:
        """Intersect the flags with those of one sampler, which always leaves the most likely token that it gets."""
        left = self.values[self.possible]
        one_first = len(left) == 1 or bool(left[0] - left[1] > self._noise)
        certainly_first = (self.values == left[0]) if one_first else np.zeros_like(self.certain)
        least = self.values[self.certain][:1] - self._noise  # the most likely token is not below the first certain one
        possibly_first = self.values >= least[0] if len(least) else np.ones_like(self.certain)
        self.certain = self.certain & (certain | certainly_first)
        self.possible = self.possible & (possible | possibly_first)

    def _top_k(self, k: int) -> None:
        certain, possible = self.values[self.certain], self.values[self.possible]
        certainly = self.values > possible[k] + self._noise if len(possible) > k else np.ones_like(self.certain)
        possibly = self.values >= certain[k - 1] - self._noise if len(certain) >= k else np.ones_like(self.certain)
        self._keep(certainly, possibly)

    def _top_p(self, p: float) -> None:
        """Bound the share of the mass before each token; a token is left if it is less than ``p``."""
        weights = np.exp(self.values)
        most = np.concatenate(((0.0,), np.cumsum(np.where(self.possible, weights, 0.0))))
        least = np.concatenate(((0.0,), np.cumsum(np.where(self.certain, weights, 0.0))))
        before = np.searchsorted(-self.values, -(self.values + self._noise), side="left")
        behind = np.searchsorted(-self.values, -(self.values - self._noise), side="right")
        # Upper bound: every other possible token down to the noise below it, against the certain tokens further down.
        ahead = self._factor * (most[behind] - weights * self.possible)
        upper = ahead / (ahead + weights + least[-1] - least[behind] + self.unlisted)
        # Lower bound: the certain tokens above it by more than the noise, against the possible tokens from there down.
        ahead = least[before]
        mass = ahead + self._factor * (most[-1] - most[before] + self.unlisted)
        lower = np.divide(ahead, mass, out=np.zeros_like(mass), where=mass > 0.0)  # no mass: the token is impossible
        self._keep(upper < p, lower < p)
        self.unlisted = 0.0

    def _min_p(self, gap: float) -> None:
        """Bound the distance to the maximum, which lies between the first certain and the first possible token."""
        top = self.values[self.possible][0]
        certain = self.values[self.certain]
        certainly = top - self.values + self._noise <= gap
        possibly = certain[0] - self.values - self._noise <= gap if len(certain) else np.ones_like(self.certain)
        self._keep(certainly, possibly)

    def _typical(self, p: float) -> None:
        """Bound the mass of more typical tokens; if the set of tokens is not known, no token is certain."""
        if not self._set_is_known():
            self.certain = np.zeros_like(self.certain)
            return
        at = np.flatnonzero(self.possible)
        mass, distance = surprisal_distance(self.values[at])
        shift = 2 * self._noise * (1 + _max_surprisal_deviation(len(at)) / 2) + 1e-5
        order = np.argsort(distance, kind="stable")
        held = np.concatenate(((0.0,), np.cumsum(mass[order])))
        ranked = distance[order]
        most = held[np.searchsorted(ranked, distance + shift, side="right")] - mass
        least = held[np.searchsorted(ranked, distance - shift, side="left")]
        certainly, possibly = np.zeros_like(self.certain), np.zeros_like(self.certain)
        certainly[at] = most * self._factor + 1e-6 <= p
        possibly[at] = least / self._factor - 1e-6 <= p
        self.certain, self.possible = certainly, possibly

    def _xtc(self, threshold: float) -> None:
        """Remove all tokens that reach the threshold but the last; if these are not known, no token is certain."""
        weights = np.exp(self.values)
        possible = weights[self.possible].sum() + self.unlisted
        certain = weights[self.certain].sum() + self.unlisted
        lower = weights / (weights + self._factor * (possible - weights * self.possible))
        upper = self._factor * weights / (self._factor * weights + np.maximum(certain - weights * self.certain, 0.0))
        reaching = self.possible & (upper >= threshold)
        count = int(np.count_nonzero(reaching))
        known = bool((self.certain[reaching]).all() and (lower[reaching] >= threshold).all())
        if count < 2 and known:
            return
        values = self.values[reaching]
        if not known or values[-2] - values[-1] <= self._noise:
            self.certain = np.zeros_like(self.certain)
            return
        removed = reaching.copy()
        removed[np.flatnonzero(reaching)[-1]] = False
        self._size -= count - 1
        self.certain, self.possible = self.certain & ~removed, self.possible & ~removed

    def temperatures(self) -> set[float]:
        """The lowest and the highest possible temperature."""
        middle, reach = self._params.temperature, self._params.dynatemp_range
        if reach == 0.0 or not self._set_is_known():
            return {max(0.0, middle - reach), middle + reach}
        left = Candidates(self.ids[self.possible], self.values[self.possible], self._size)
        shift = self._noise * _max_surprisal_deviation(len(left.ids)) / 2 + ROUNDING
        return {temperature(left, self._params, -shift), temperature(left, self._params, shift)}

    def _set_is_known(self) -> bool:
        """True if every perturbation leaves the same tokens."""
        return bool((self.certain == self.possible).all())


def _max_surprisal_deviation(n: int) -> float:
    """Largest standard deviation of the surprisal of ``n`` outcomes (Reeb and Wolf, arXiv 1304.0036).

    If log probabilities change by at most the noise, the entropy changes by at most half the noise times this.
    """
    return math.sqrt(math.log(max(n - 1, 1)) ** 2 / 4 + 1)
