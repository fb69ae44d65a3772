"""Whether rows of a batch equal the rows of single decodes, bit for bit: probed, and guarded where they do not.

The target's token at a position is a function of its logits row. So the text is the plain decode's exactly where a
row is the same whether it was computed alone or in a batch; where it is not, a choice that is closer than the rows
differ is made by a row of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from localspec.llama.saved_cells import repeat_cells
from localspec.params import PROBE_WIDTH
from localspec.protocols import Context

#: Cells below and above which llama.cpp's attention splits its work in another way: rows are probed on both sides.
_SPLIT = 512
_FIRST, _REPEATS = 32, 20
_NARROW = 9
#: Above this many seconds for a single row only a few widths are probed.
_SLOW = 0.2
#: How near the maximum the logits are that the noise is measured on: those that sampling may choose, and those that
#: may be the largest. Differences between logits move the further the further these are apart.
_CHOOSABLE, _CONTENDING = 8.0, 2.0
_Moved = tuple[float, float]
_SAME: _Moved = (0.0, 0.0)
#: The probe sees some hundred rows and a generation thousands: room above the largest difference that was seen.
_MARGIN = 1.25
#: Long enough for every width on any tokenizer, and plain enough for the model to be sure of some of it.
TEXT = (
    "The river rises in the hills above the town and runs for forty miles before it meets the sea. In spring, when "
    "the snow melts, it floods the lower meadows; by August a child can wade across. def total(values): return "
    "sum(v for v in values if v > 0)  # 3, 14, 159\nThe mill at the bridge ground corn until 1911, and its wheel, "
    "which is still there, turns on the first Sunday of every month for visitors who come to see how bread was made."
)


@dataclass(frozen=True)
class Invariance:
    """What a probe found: batches of up to ``width`` tokens give the rows of single decodes, bit for bit.

    ``probed`` is the widest batch tried. ``noise`` and ``greedy_noise`` are how far differences between logits moved
    in wider batches and in single rows that follow them, in logits, with a margin (see :class:`Guard`); 0 when
    ``width`` is ``probed``.
    """

    width: int
    probed: int
    noise: float = 0.0
    greedy_noise: float = 0.0

    @property
    def exact(self) -> bool:
        return self.width >= self.probed

    def record(self) -> dict[str, Any]:
        """For :meth:`of` in a later run."""
        return asdict(self)

    @classmethod
    def of(cls, record: dict[str, Any] | None) -> Invariance | None:
        """What :meth:`record` gave, or None where that is not what it is."""
        if not isinstance(record, dict) or record.keys() != {item.name for item in fields(cls)}:
            return None
        width, probed, *noises = (record[item.name] for item in fields(cls))
        sound = type(width) is int and type(probed) is int and 1 <= width <= probed
        sound = sound and all(isinstance(noise, float) and 0.0 <= noise < 1e6 for noise in noises)
        return cls(**record) if sound else None


class ProbedContext(Context, Protocol):
    """A context whose cache can be taken out and put back."""

    def state(self) -> bytes:
        """The cache as bytes."""

    def restore(self, state: bytes, tokens: Sequence[int]) -> None:
        """Replace the cache by a saved one, which holds ``tokens``."""


def probe(context: ProbedContext, text: Sequence[int], widest: int = PROBE_WIDTH) -> Invariance:
    """Compare rows of batches of 2 … ``widest`` tokens with single rows, in a short and in a long cache.

    ``text``: ids of some ordinary text. What the context held is forgotten, before and after.
    """
    tokens = (list(text) * (2 * (_FIRST + widest) // max(1, len(text)) + 1))[: _FIRST + widest + 1]
    try:
        context.rewind(0)
        context.decode(tokens[:_FIRST], "none")
        moved = _compare(context, tokens[_FIRST:], _NARROW, _widths(widest))
        if context.n_ctx > _FIRST * _REPEATS and lengthen(context, tokens[:_FIRST], _REPEATS) > _SPLIT:
            for width, found in _compare(context, tokens[_FIRST:], 4, (2, 4, min(_NARROW, widest))).items():
                moved[width] = _larger(moved.get(width, _SAME), found)
    finally:
        context.rewind(0)
    differing = [width for width, found in moved.items() if found != _SAME]
    width = max((w for w in moved if w < min(differing, default=widest + 1)), default=1)
    noise, greedy = (max(found[i] for found in moved.values()) * _MARGIN for i in (0, 1))
    return Invariance(width if differing else widest, widest, noise, greedy)


def _widths(widest: int) -> list[int]:
    """All narrow ones, and wider ones of every remainder by the groups of four and eight rows that kernels work in."""
    return [width for width in (2, 3, 4, 5, 6, 7, 8, _NARROW, 13, 16, 27, 32, 46, 64) if width < widest] + [widest]


def _compare(context: Context, tokens: Sequence[int], count: int, widths: Iterable[int]) -> dict[int, _Moved]:
    """By width: how far the first ``count`` rows moved from single ones, and a single row that follows the batch."""
    start = len(context.tokens)
    began = perf_counter()
    single = np.array([context.decode((token,))[0].copy() for token in tokens[: count + 1]])
    slow = (perf_counter() - began) / (count + 1) > _SLOW
    moved: dict[int, _Moved] = {}
    for width in widths:
        if (slow or any(found != _SAME for found in moved.values())) and width not in (2, 4, _NARROW, 16):
            continue
        context.rewind(start)
        rows = context.decode(tokens[:width])
        moved[width] = _SAME
        for row, alone in zip(rows, single[:count], strict=False):
            moved[width] = _larger(moved[width], _moved(row, alone))
        if moved[width] != _SAME and width <= count:
            following = context.decode((tokens[width],))[0]
            moved[width] = _larger(moved[width], _moved(following, single[width]))
    return moved


def _moved(row: NDArray[np.float32], single: NDArray[np.float32]) -> _Moved:
    """How far differences between choosable and between contending logits moved; 0 only when all are the same."""
    if np.array_equal(row, single):
        return _SAME
    spans = []
    for distance in (_CHOOSABLE, _CONTENDING):
        near = single >= single.max() - distance
        change = row[near].astype(np.float64) - single[near]
        spans.append(max(float(change.max() - change.min()), float(np.finfo(np.float32).tiny)))
    return spans[0], spans[1]


def _larger(a: _Moved, b: _Moved) -> _Moved:
    return max(a[0], b[0]), max(a[1], b[1])


def lengthen(context: ProbedContext, held: Sequence[int], times: int) -> int:
    """Fill the cache with ``times`` copies of what it holds, without decoding; returns how many tokens it has then."""
    context.rewind(len(held))
    state = repeat_cells(context.state(), times)
    if state is not None:
        context.restore(state, list(held) * times)
    else:
        for _ in range(times - 1):
            context.decode(held, "none")
    return len(context.tokens)
