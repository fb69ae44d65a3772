"""Probe of batch invariance: are the rows and cells of a wide pass those of single-token passes, bit for bit?

The token at a position depends on its row of logits, and the row on the cells before it. So the output is that of plain
decoding where rows are equal. It is independent of earlier prompts where prefilled cells are equal, or where prompts
are cut into the same chunks whatever is cached.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from localspec.errors import BackendError
from localspec.llama.saved_cells import repeat_cells
from localspec.params import PROBE_WIDTH
from localspec.protocols import Context

#: Cells in the cache before the probed passes, in tokens.
_HELD = 32
#: llama.cpp's attention works in another way from this many cells on. Rows are probed on both sides.
_SPLIT = 512
#: Multiples of the held cells: beyond the split for rows, and such that the prefill probe crosses it.
_LONG, _BEFORE_SPLIT = 20, 12
#: Rows of a pass that are compared, in a short cache and in a long one.
_ROWS, _ROWS_LONG = 9, 4
#: Widths of passes that are compared: all narrow ones, and wider ones of different remainders by the groups of four and
#: eight rows that kernels work in. Only the short list once a width differs, and with slow models.
_WIDTHS, _FEW_WIDTHS = (2, 3, 4, 5, 6, 7, 8, 9, 13, 16, 27, 32, 46, 64), (2, 4, 9, 16)
#: Seconds of a single-token pass from which on a model is slow.
_SLOW_S = 0.2
#: Logits of the maximum row value within which a token may be sampled, and within which it may be the largest.
_SAMPLED, _LARGEST = 8.0, 2.0
#: The probe sees some hundred rows and a generation thousands, so the largest difference seen is multiplied by this.
_MARGIN = 1.25
#: Tokens of a chunk that prompts are cut into where not every cell can be reused: few, so that little is decoded again,
#: and a multiple of all groups of rows that kernels work in.
CHUNK = 64
#: The pass that is compared with narrow ones lacks this many tokens of the widest, so that its last group of rows is
#: not full.
_RAGGED = 5
#: How far the differences between logits of two rows differ: between tokens that may be sampled, and between those that
#: may be the largest.
Difference = tuple[float, float]
_NONE: Difference = (0.0, 0.0)
#: Long enough for every width with any tokenizer, and plain enough for some tokens to be certain.
TEXT = (
    "The river rises in the hills above the town and runs for forty miles before it meets the sea. In spring, when "
    "the snow melts, it floods the lower meadows; by August a child can wade across. def total(values): return "
    "sum(v for v in values if v > 0)  # 3, 14, 159\nThe mill at the bridge ground corn until 1911, and its wheel, "
    "which is still there, turns on the first Sunday of every month for visitors who come to see how bread was made."
)


@dataclass(frozen=True)
class Invariance:
    """Result of a probe: passes of up to ``width`` tokens give the rows of single-token passes, bit for bit.

    ``probed``: the widest pass tried. ``noise`` and ``greedy_noise``: differences in wider passes and in single-token
    passes that follow them, in logits, with a margin (see :class:`localspec.generation.guard.Guard`); 0 when ``width``
    is ``probed``. ``chunk``: a cached prefix may be reused up to a multiple of this many tokens; 1 where prefilled
    cells are those of single-token passes.
    """

    width: int
    probed: int
    noise: float = 0.0
    greedy_noise: float = 0.0
    chunk: int = 1

    @property
    def exact(self) -> bool:
        return self.width >= self.probed

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any] | None) -> Invariance | None:
        """From the values of :meth:`to_dict`; None for anything else."""
        if not isinstance(values, dict) or values.keys() != {item.name for item in fields(cls)}:
            return None
        counts = [values[name] for name in ("width", "probed", "chunk")]
        noises = [values[name] for name in ("noise", "greedy_noise")]
        valid = all(type(count) is int and count >= 1 for count in counts) and counts[0] <= counts[1]
        valid = valid and all(isinstance(noise, float) and 0.0 <= noise < 1e6 for noise in noises)
        return cls(**values) if valid else None


class ProbedContext(Context, Protocol):
    """A context whose cache can be saved and restored, and the most tokens that it computes in one pass."""

    pass_width: int

    def state(self) -> bytes:
        """The cache as bytes."""

    def restore(self, state: bytes, tokens: Sequence[int]) -> None:
        """Replace the cache by a saved one, which holds ``tokens``."""


def probe(context: ProbedContext, text: Sequence[int], widest: int = PROBE_WIDTH) -> Invariance:
    """Compare passes of 2 … ``widest`` tokens with single-token passes, in a short and in a long cache.

    ``text``: ids of ordinary text. The cache is empty afterwards.
    """
    tokens = _repeat(text, _HELD + max(widest + 1, context.pass_width))
    held, rest = tokens[:_HELD], tokens[_HELD:]
    try:
        context.rewind(0)
        context.decode(held, "none")
        slow = _is_slow(context, rest[0])
        widths = _FEW_WIDTHS if slow else (*_WIDTHS, widest)
        found = _compare_rows(context, rest, _ROWS, [width for width in widths if width <= widest])
        if context.n_ctx > _HELD * _LONG and extend_cache(context, held, _LONG) > _SPLIT:
            for width, difference in _compare_rows(context, rest, _ROWS_LONG, (2, 4, min(_ROWS, widest))).items():
                found[width] = _larger(found.get(width, _NONE), difference)
        differing = [width for width, difference in found.items() if difference != _NONE]
        width = max((width for width in found if width < min(differing)), default=1) if differing else widest
        chunk = _reusable_chunk(context, held, rest, narrow=None if differing else widest, slow=slow)
    finally:
        context.rewind(0)
    noise, greedy = (max(difference[i] for difference in found.values()) * _MARGIN for i in (0, 1))
    return Invariance(width, widest, noise, greedy, chunk)


def extend_cache(context: ProbedContext, held: Sequence[int], times: int) -> int:
    """Fill the cache with ``times`` copies of ``held``, its first tokens, without decoding if possible.

    Returns the number of cached tokens.
    """
    context.rewind(len(held))
    state = repeat_cells(context.state(), times)
    if state is not None:
        context.restore(state, list(held) * times)
    else:
        for _ in range(times - 1):
            context.decode(held, "none")
    return len(context.tokens)


def _is_slow(context: Context, token: int) -> bool:
    """Time a single-token pass, the second one: the first reads weights from the file."""
    start, seconds = len(context.tokens), 0.0
    for _ in range(2):
        before = context.decode_s
        context.decode((token,))
        seconds = context.decode_s - before
    context.rewind(start)
    return seconds > _SLOW_S


def _repeat(text: Sequence[int], count: int) -> list[int]:
    return (list(text) * (count // max(1, len(text)) + 1))[:count]


def _compare_rows(context: Context, tokens: Sequence[int], count: int, widths: Iterable[int]) -> dict[int, Difference]:
    """Width → difference of the first ``count`` rows, and of a single row behind the pass, from single-token passes."""
    start = len(context.tokens)
    single = np.array([context.decode((token,))[0].copy() for token in tokens[: count + 1]])
    found: dict[int, Difference] = {}
    for width in widths:
        if width not in _FEW_WIDTHS and any(difference != _NONE for difference in found.values()):
            continue
        context.rewind(start)
        rows = context.decode(tokens[:width])
        found[width] = _NONE
        for row, alone in zip(rows, single[:count], strict=False):
            found[width] = _larger(found[width], _difference(row, alone))
        if found[width] != _NONE and width <= count:
            following = context.decode((tokens[width],))[0]
            found[width] = _larger(found[width], _difference(following, single[width]))
    return found


def _difference(row: NDArray[np.float32], single: NDArray[np.float32]) -> Difference:
    """See :data:`Difference`; 0 only when all logits are equal."""
    if np.array_equal(row, single):
        return _NONE
    spans = []
    for distance in (_SAMPLED, _LARGEST):
        near = single >= single.max() - distance
        change = row[near].astype(np.float64) - single[near]
        spans.append(max(float(change.max() - change.min()), float(np.finfo(np.float32).tiny)))
    return spans[0], spans[1]


def _larger(a: Difference, b: Difference) -> Difference:
    return max(a[0], b[0]), max(a[1], b[1])


def _reusable_chunk(
    context: ProbedContext, held: Sequence[int], tokens: Sequence[int], *, narrow: int | None, slow: bool
) -> int:
    """Compare the cells of one wide pass with those of narrower ones, where possible across the split of attention.

    ``narrow``: a width whose rows are exact, None if not all are. Returns :attr:`Invariance.chunk`.
    """
    widest = context.pass_width
    count = min(2 * CHUNK if slow else widest, widest, context.n_ctx - _HELD)
    try:
        context.rewind(_HELD)
        if context.n_ctx >= _HELD * _BEFORE_SPLIT + count:
            extend_cache(context, held, _BEFORE_SPLIT)
        if narrow and _same_cells(context, tokens[: count - _RAGGED], narrow):
            return 1
        chunks = tokens[: count - count % CHUNK]
        return CHUNK if len(chunks) > CHUNK and _same_cells(context, chunks, CHUNK) else widest
    except BackendError:  # a cache that cannot be saved
        return widest


def _same_cells(context: ProbedContext, tokens: Sequence[int], width: int) -> bool:
    """True if passes of ``width`` leave the cells of a single pass over ``tokens``."""
    return _cells_after(context, tokens, len(tokens)) == _cells_after(context, tokens, width)


def _cells_after(context: ProbedContext, tokens: Sequence[int], width: int) -> bytes:
    """The cache after passes of ``width`` over ``tokens``, which are removed again."""
    start = len(context.tokens)
    for at in range(0, len(tokens), width):
        context.decode(tokens[at : at + width], "none")
    state = context.state()
    context.rewind(start)
    return state
