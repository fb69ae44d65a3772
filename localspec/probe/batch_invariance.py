"""Probe of batch invariance: are the rows and cells of a wide pass those of single-token passes, bit for bit?

The token at a position depends on its row of logits, and the row on the cells before it. So the output is that of plain
decoding where rows are equal. It is independent of earlier prompts where prefilled cells are equal, or where prompts
are cut into the same chunks whatever is cached.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Protocol

import numpy as np

from localspec.errors import BackendError
from localspec.generation.prefill import CHUNK
from localspec.llama.saved_cells import repeat_cells
from localspec.params import PROBE_WIDTH
from localspec.protocols import Context, Rows

#: Cells in the cache before the probed passes, in tokens.
HELD = 32
#: llama.cpp's attention works in another way from this many cells on. Rows are probed on both sides.
_SPLIT = 512
#: Multiples of the held cells: beyond the split for rows, and such that the prefill probe crosses it.
LONG, _BEFORE_SPLIT = 20, 12
#: Rows of a pass that are compared, in a short cache and in a long one.
_ROWS, _ROWS_LONG = 9, 4
#: Passes of up to this many tokens are compared first: drafting can begin with them.
_NARROW = 4
#: Differences of logits from here on are not those of a probe.
_ABSURD = 1e6
#: Widths of passes that are compared: all narrow ones, and wider ones of different remainders by the groups of four and
#: eight rows that kernels work in. Only the short list once a width differs, and with slow models.
_WIDTHS, _FEW_WIDTHS = (2, 3, 4, 5, 6, 7, 8, 9, 13, 16, 27, 32, 46, 64), (2, 4, 9, 16)
#: Seconds of a single-token pass from which on a model is slow.
_SLOW_S = 0.2
#: The pass that is compared with narrow ones lacks this many tokens of the widest, so that its last group of rows is
#: not full.
_RAGGED = 5
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

    ``probed``: the widest pass tried. ``difference``: the largest one seen between logits of wider passes, and of
    single-token passes that follow them, and those of single-token passes alone. ``chunk``: a cached prefix may be
    reused up to a multiple of this many tokens; 1 where prefilled cells are those of single-token passes.
    """

    width: int
    probed: int
    difference: float = 0.0
    chunk: int = 1

    @property
    def exact(self) -> bool:
        return self.width >= self.probed


@dataclass
class Findings:
    """Comparisons that a probe has made so far, so that another process can go on with it.

    ``short`` and ``long``: width → difference, in a short and in a long cache. ``slow``: a single-token pass is slow.
    ``chunk``: see :class:`Invariance`. Both are None until they are measured.
    """

    short: dict[int, float] = field(default_factory=dict)
    long: dict[int, float] = field(default_factory=dict)
    slow: bool | None = None
    chunk: int | None = None

    @property
    def differing(self) -> list[int]:
        """Widths whose rows are not those of single-token passes."""
        return [width for found in (self.short, self.long) for width, moved in found.items() if moved]

    def pending(self, widest: int, n_ctx: int) -> list[tuple[bool, int]]:
        """Comparisons to make in a context of ``n_ctx`` tokens, in order: in a long cache or not, and the width."""
        wanted = _FEW_WIDTHS if self.slow or self.differing else (*_WIDTHS, widest)
        if 4 in self.differing:  # K-quants on x86: kernels change at four rows, and drafts of two tokens are worth it
            wanted = (*wanted, 3)
        short = sorted({width for width in wanted if width <= widest})
        long = sorted({2, 4, min(_ROWS, widest)} if n_ctx > HELD * LONG else {})
        order = [*((False, width) for width in short), *((True, width) for width in long)]
        found = {False: self.short, True: self.long}
        return [one for one in sorted(order, key=_stage) if one[1] not in found[one[0]]]

    def invariance(self, widest: int, n_ctx: int, pass_width: int) -> Invariance:
        """The result for passes of at most ``widest`` tokens; for narrower ones as long as comparisons are pending."""
        pending, differing = self.pending(widest, n_ctx), self.differing
        proved = [
            width
            for width in self.short
            if width < min([*differing, *(width for _, width in pending)], default=widest + 1)
        ]
        width = max(proved, default=1)
        chunk = self.chunk or pass_width
        if pending:
            return Invariance(width, width, chunk=chunk)
        difference = max([*self.short.values(), *self.long.values()])
        return Invariance(width if differing else widest, widest, difference, chunk)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: object) -> Findings | None:
        """From the values of :meth:`to_dict`, also as JSON gives them; None for anything else."""
        if not isinstance(values, dict) or values.keys() != {item.name for item in fields(cls)}:
            return None
        slow, chunk = values["slow"], values["chunk"]
        try:
            short, long = (numbers_by_width(values[name]) for name in ("short", "long"))
        except (TypeError, ValueError, AttributeError):
            return None
        valid = slow in (None, True, False) and (chunk is None or (type(chunk) is int and chunk >= 1))
        return cls(short, long, slow, chunk) if valid else None


def numbers_by_width(values: dict[str, Any], least: int = 2) -> dict[int, float]:
    """Check and convert numbers of passes of ``least`` rows or more. Raises TypeError, ValueError or AttributeError."""
    found = {int(width): float(number) for width, number in values.items()}
    if not all(width >= least and 0.0 <= number < _ABSURD for width, number in found.items()):
        raise ValueError("not a number of a pass")
    return found


def _stage(comparison: tuple[bool, int]) -> tuple[int, bool, int]:
    """Order of comparisons: narrow passes first, so that drafting can begin, in both caches before wider ones."""
    long, width = comparison
    return (sum(width > edge for edge in (_NARROW, _ROWS))), long, width


class ProbedContext(Context, Protocol):
    """A context whose cache can be saved and restored, and the most tokens that it computes in one pass."""

    pass_width: int

    def state(self) -> bytes:
        """The cache as bytes."""

    def restore(self, state: bytes, tokens: Sequence[int]) -> None:
        """Replace the cache by a saved one, which holds ``tokens``."""


def probe(
    context: ProbedContext,
    text: Sequence[int],
    widest: int = PROBE_WIDTH,
    findings: Findings | None = None,
    checkpoint: Callable[[Findings], None] = lambda _: None,
    *,
    chunk: bool = True,
) -> Invariance:
    """Compare passes of 2 … ``widest`` tokens with single-token passes, in a short and in a long cache.

    ``text``: ids of ordinary text. ``findings`` of earlier probes are extended and not measured again; ``checkpoint``
    is called with them after each comparison. ``chunk``: compare the cells of prefills as well. The cache is empty
    afterwards.
    """
    found = findings or Findings()
    tokens = repeat(text, HELD + max(widest + 1, context.pass_width))
    held, rest = tokens[:HELD], tokens[HELD:]
    comparison = _Comparison(context, held, rest)
    try:
        if found.slow is None:
            comparison.start(long=False)
            found.slow = _is_slow(context, rest[0])
        while pending := found.pending(widest, context.n_ctx):
            long, width = pending[0]
            (found.long if long else found.short)[width] = comparison.difference(width, long=long)
            checkpoint(found)
        if chunk and found.chunk is None:
            narrow = None if found.differing else widest
            comparison.start(long=False)
            found.chunk = _reusable_chunk(context, held, rest, narrow=narrow, slow=found.slow)
            checkpoint(found)
    finally:
        context.rewind(0)
    return found.invariance(widest, context.n_ctx, context.pass_width)


def hold(context: ProbedContext, held: Sequence[int], times: int = 1) -> int:
    """Fill the cache with ``times`` copies of ``held``; returns the number of cached tokens."""
    context.rewind(len(held))
    if context.tokens != held:  # new, or what was restored cannot be rewound
        context.rewind(0)
        context.decode(held, "none")
    context.mark()
    return extend_cache(context, held, times) if times > 1 else len(held)


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
    context.mark()
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


def repeat(text: Sequence[int], count: int) -> list[int]:
    """``count`` tokens: ``text`` as often as needed."""
    return (list(text) * (count // max(1, len(text)) + 1))[:count]


class _Comparison:
    """Compares rows of a wide pass with those of single-token passes behind ``held``, or behind many copies of it."""

    _single: Rows
    #: Length of the cache behind which the single rows were computed.
    _start: int

    def __init__(self, context: ProbedContext, held: Sequence[int], tokens: Sequence[int]) -> None:
        self._context, self._held, self._tokens = context, held, tokens
        #: Cache of the single rows (long or not); None before the first.
        self._long: bool | None = None

    def start(self, *, long: bool) -> int:
        """Bring the cache to the tokens behind which rows are compared; returns their number."""
        return hold(self._context, self._held, LONG if long else 1)

    def difference(self, width: int, *, long: bool) -> float:
        """The largest difference of a pass's first rows, and of a single row behind it, from single-token passes."""
        count = min(width, _ROWS_LONG if long else _ROWS)
        self._compute_single(count, long)
        self._context.rewind(self._start)
        found = largest_difference(self._context.decode(self._tokens[:width])[:count], self._single)
        if found and width <= count:
            following = self._context.decode((self._tokens[width],))
            found = max(found, largest_difference(following, self._single[width:]))
        return found

    def _compute_single(self, count: int, long: bool) -> None:
        """Compute ``count`` rows by single-token passes, and one more, unless they are known."""
        if self._long == long and len(self._single) > count:
            return
        if self._long != long:
            self._start = self.start(long=long)
        self._long = long
        self._context.rewind(self._start)
        single = [self._context.decode((token,))[0].copy() for token in self._tokens[: count + 1]]
        self._single = np.array(single)


def largest_difference(rows: Rows, expected: Rows) -> float:
    """The largest difference of a logit of ``rows`` from the ``expected`` ones; 0 only where all bits are equal."""
    expected = expected[: len(rows)]
    if np.array_equal(rows, expected):
        return 0.0
    found = float(np.finfo(np.float32).tiny)
    for row, wanted in zip(rows, expected, strict=True):  # copies of all rows at once take as much memory as a cache
        finite = np.isfinite(row) & np.isfinite(wanted)  # a forbidden token has -inf
        found = max(found, float(np.abs(row[finite].astype(np.float64) - wanted[finite]).max(initial=0.0)))
    return found


def _reusable_chunk(
    context: ProbedContext, held: Sequence[int], tokens: Sequence[int], *, narrow: int | None, slow: bool
) -> int:
    """Compare the cells of one wide pass with those of narrower ones, where possible across the split of attention.

    The cache holds ``held``. ``narrow``: a width whose rows are exact, None if not all are. Returns
    :attr:`Invariance.chunk`.
    """
    widest = context.pass_width
    count = min(2 * CHUNK if slow else widest, widest, context.n_ctx - HELD)
    try:
        if context.n_ctx >= HELD * _BEFORE_SPLIT + count:
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
    context.mark()
    for at in range(0, len(tokens), width):
        context.decode(tokens[at : at + width], "none")
    state = context.state()
    context.rewind(start)
    return state
