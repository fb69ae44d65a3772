"""Costs of passes on a machine: c(n), the seconds of one pass over n tokens, and the seconds of drafting.

A curve is measured at some widths, and only these are used: few widths let llama.cpp reuse its graphs, and kernels that
work in groups of rows make some widths cheaper than narrower ones. A live curve follows real passes, because other
programs and heat change them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from localspec.errors import InputError

#: Widths that are measured: mostly whole groups of four and eight rows.
WIDTHS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64)
#: Share by which a pass moves the scale of the curve, and its own width.
FOLLOW = 0.1
#: Largest deviation of one pass that counts, as the logarithm of a factor.
OUTLIER = 0.4
#: Longest time that is accepted in a file, in seconds.
_LONGEST = 3600.0


@dataclass(frozen=True)
class Curve:
    """Seconds of one pass over n tokens at some ``widths`` (rising, from 1), linear between them, in a short context.

    ``cell``: seconds that each token in the cache adds to each row: attention reads all of them. Beyond the last width
    the time of a row is constant: a staircase that ends on a cheap step must not continue to fall. A pass over fewer
    than ``least`` tokens is padded to so many rows.
    """

    widths: tuple[int, ...]
    times: tuple[float, ...]
    cell: float = 0.0
    least: int = 1

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.widths, self.widths[1:], strict=False))
        if not self.widths or len(self.widths) != len(self.times) or self.widths[0] != 1 or not rising:
            raise InputError(f"a cost curve has the widths {list(self.widths)}; they must rise from 1.")
        for seconds in self.times:
            if not 0.0 < seconds < _LONGEST:
                raise InputError(f"a cost curve has a time of {seconds} s; it must be above 0 and below an hour.")
        if not 0.0 <= self.cell < 1.0:
            raise InputError(f"a token in the cache costs {self.cell} s a row; it must be at least 0 and below 1.")

    def seconds(self, n: int, cached: int = 0) -> float:
        """Return c(n), n ≥ 1, behind ``cached`` tokens."""
        return self._short(n) + self.cell * max(n, self.least) * cached

    def _short(self, n: int) -> float:
        widths, times = self.widths, self.times
        if n >= widths[-1]:
            return times[-1] * n / widths[-1]
        i = next(i for i, width in enumerate(widths) if width > n)
        slope = (times[i] - times[i - 1]) / (widths[i] - widths[i - 1])
        return times[i - 1] + slope * (n - widths[i - 1])

    def scaled(self, factor: float) -> Curve:
        """Return the same shape with all times multiplied by ``factor``."""
        times = tuple(factor * seconds for seconds in self.times)
        return replace(self, times=times, cell=factor * self.cell)

    def to_dict(self) -> dict[str, float]:
        """Return width → milliseconds, as :meth:`from_dict` reads it, without ``cell``."""
        return {str(n): round(1000 * t, 4) for n, t in zip(self.widths, self.times, strict=True)}

    @classmethod
    def from_dict(cls, record: object, cell: float = 0.0) -> Curve:
        """Read width → milliseconds; ``cell`` is in seconds. Raises :class:`InputError`."""
        if not isinstance(record, dict) or not record:
            raise InputError(f"a cost curve is {record!r:.80}; it must map widths to milliseconds.")
        try:
            pairs = sorted((int(n), float(t) / 1000) for n, t in record.items())
        except (TypeError, ValueError) as error:
            raise InputError(f"a cost curve holds {record!r:.80}; it must map widths to milliseconds.") from error
        return cls(tuple(n for n, _ in pairs), tuple(t for _, t in pairs), cell)


@dataclass(frozen=True)
class DraftCosts:
    """Costs of a drafter that decodes.

    ``first``: one pass over the n tokens that the drafter has not read yet, which gives the first draft token.
    ``step``: seconds of each further draft token.
    """

    first: Curve
    step: float


@dataclass(frozen=True)
class Costs:
    """Costs of a target (``verify``) and of its drafters by name. ``python``: seconds of a step outside llama.cpp.

    ``checkpoint``: seconds of making a checkpoint of a recurrent state and of returning to it.
    """

    verify: Curve
    drafters: Mapping[str, DraftCosts] = field(default_factory=dict)
    python: float = 0.0
    checkpoint: float = 0.0

    def padded(self, width: int) -> Costs:
        """Return the costs where each pass of the target is padded to ``width`` rows; 1: not padded."""
        if width == 1:
            return self
        seconds = self.verify.seconds(width)
        return replace(self, verify=Curve((1, width), (seconds, seconds), self.verify.cell, width))

    def to_dict(self) -> dict[str, Any]:
        """Return values for JSON, in milliseconds, as :meth:`from_dict` reads them."""
        drafters = {
            name: {"first": costs.first.to_dict(), "step": round(1000 * costs.step, 4)}
            for name, costs in self.drafters.items()
        }
        return {
            "verify": self.verify.to_dict(),
            "cell": round(1000 * self.verify.cell, 8),
            "drafters": drafters,
            "python": round(1000 * self.python, 4),
            **({"checkpoint": round(1000 * self.checkpoint, 4)} if self.checkpoint else {}),
        }

    @classmethod
    def from_dict(cls, record: object) -> Costs:
        """Read the values of :meth:`to_dict`. Raises :class:`InputError`."""
        if not isinstance(record, dict) or "verify" not in record:
            raise InputError('costs must be an object with "verify": {width: milliseconds}; run `localspec tune`.')
        given, python, cell = record.get("drafters", {}), record.get("python", 0.0), record.get("cell", 0.0)
        if not isinstance(given, dict) or not all(isinstance(one, dict) and "step" in one for one in given.values()):
            raise InputError('the drafters of a cost curve must be {name: {"first": {...}, "step": milliseconds}}.')
        drafters = {
            str(name): DraftCosts(
                Curve.from_dict(one.get("first", {"1": one["step"]})), Curve.from_dict({"1": one["step"]}).times[0]
            )
            for name, one in given.items()
        }
        if not isinstance(python, int | float) or not 0 <= python < 1000 * _LONGEST:
            raise InputError(f"the python time of a cost curve is {python!r}; it must be milliseconds.")
        checkpoint = record.get("checkpoint", 0.0)
        if not isinstance(checkpoint, int | float) or not 0 <= checkpoint < 1000 * _LONGEST:
            raise InputError(f"the checkpoint of a cost curve is {checkpoint!r}; it must be milliseconds.")
        if not isinstance(cell, int | float):
            raise InputError(f"the cell of a cost curve is {cell!r}; it must be milliseconds.")
        return cls(Curve.from_dict(record["verify"], cell / 1000), drafters, python / 1000, checkpoint / 1000)


class LiveCurve:
    """A curve that follows real passes: a scale common to all widths, and a factor of each width."""

    def __init__(self, curve: Curve, widest: int) -> None:
        self.widths: Sequence[int] = sorted(n for n in {*curve.widths, *WIDTHS} if n <= widest)
        self._times = [0.0] + [curve.seconds(n) for n in range(1, max(widest, curve.widths[-1]) + 1)]
        self._cell = curve.cell
        self._curve, self._scale = curve, 1.0
        self._guessed = set(self.widths) - set(curve.widths)

    def seconds(self, n: int, cached: int = 0) -> float:
        """Return c(n) as it is now, behind ``cached`` tokens."""
        known = self._times[n] if n < len(self._times) else self._curve.seconds(n)
        return self._scale * (known + self._cell * max(n, self._curve.least) * cached)

    def share(self, n: int, cached: int, others: int) -> float:
        """Return the part of c(others + n) that belongs to ``n`` of its rows."""
        return self.seconds(others + n, cached) * n / (others + n) if others else self.seconds(n, cached)

    def observe(self, n: int, seconds: float, cached: int = 0, share: float = 1.0) -> None:
        """Learn that a pass over ``n`` tokens took ``seconds``. Its deviation is clipped: one outlier moves little.

        ``share``: of the pass that belongs to the sequence that learns, so that a pass of several counts once.
        """
        if n >= len(self._times) or seconds <= 0.0:
            return
        off = max(-OUTLIER, min(OUTLIER, math.log(seconds / self.seconds(n, cached))))
        self._scale *= math.exp(FOLLOW * share * off)
        self._times[n] *= math.exp((1.0 if n in self._guessed else FOLLOW * share) * off)
        self._guessed.discard(n)

    def now(self) -> Curve:
        """Return the curve as it is now."""
        curve = self._curve
        return replace(curve, times=tuple(self.seconds(n) for n in curve.widths), cell=self._scale * self._cell)
