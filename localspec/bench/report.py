"""Format summaries for a terminal: aligned columns, or blocks of short lines where it is narrow."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from localspec.bench.summary import Interval, Summary
from localspec.memory.estimate import memory_text

#: Columns that the tables need; a narrower terminal gets blocks.
_NARROW = 78
#: Ratio of an interval's ends from which it is not shown: it carries no information.
_TOO_WIDE = 100.0


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Align columns two spaces apart, the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(wide) for cell, wide in zip(row[1:], widths[1:], strict=True))]
        ).rstrip()
        for row in (header, *rows)
    ]


def wrapped(line: str, width: int) -> list[str]:
    """Wrap a sentence to ``width`` columns (20 at least), with later lines indented."""
    return textwrap.wrap(line, max(20, width), subsequent_indent="  ", break_on_hyphens=False) or [""]


def interval_text(interval: Interval) -> str:
    """Format as ``1.42 to 1.61``; a dash for a missing or useless interval."""
    if interval.low is None or interval.high is None or interval.high > _TOO_WIDE * interval.low:
        return "-"
    return f"{interval.low:.2f} to {interval.high:.2f}"


def percent(share: float | None, digits: int = 0) -> str:
    """Format a share as per cent; a dash for None."""
    return "-" if share is None else f"{share:.{digits}%}"


def decimal(value: float | None) -> str:
    """Format with one digit after the point; a dash for None."""
    return "-" if value is None else f"{value:.1f}"


def bench_lines(found: Sequence[Summary], width: int) -> list[str]:
    """Format all categories in lines of at most ``width`` columns (40 or more)."""
    if not found:
        return ["No pair of answers could be compared: they had one token each."]
    return _tables(found) if width >= _NARROW else [line for one in found for line in _block(one)]


def _tables(found: Sequence[Summary]) -> list[str]:
    speed = [
        (
            one.category, decimal(one.plain), decimal(one.auto), f"{one.ratio.value:.2f}", interval_text(one.ratio),
            percent(one.acceptance), decimal(one.mean_accepted),
        )
        for one in found
    ]  # fmt: skip
    time = [
        (
            one.category, percent(one.verify), percent(one.draft), percent(one.python, 1),
            f"{one.plain_first_s:.2f}", f"{one.first_s:.2f}", f"{one.same}/{one.pairs}",
        )
        for one in found
    ]  # fmt: skip
    return [
        *aligned(("tokens/s", "plain", "auto", "ratio", "95% interval", "accepted", "a step"), speed),
        "",
        *aligned(("auto's time", "verify", "draft", "Python", "first s: plain", "auto", "same text"), time),
    ]


def _block(one: Summary) -> list[str]:
    interval = "" if interval_text(one.ratio) == "-" else f" [{interval_text(one.ratio)}]"
    lines = [
        f"{one.category}: {one.ratio.value:.2f}x{interval}",
        f"  {one.plain:.1f} -> {one.auto:.1f} tokens/s",
    ]
    if one.acceptance is not None:
        lines.append(f"  {percent(one.acceptance)} accepted, {decimal(one.mean_accepted)} a step")
    return [
        *lines,
        f"  verify {percent(one.verify)}, draft {percent(one.draft)}, Python {percent(one.python, 1)}",
        f"  first token {one.plain_first_s:.2f} -> {one.first_s:.2f} s",
        f"  same text {one.same}/{one.pairs}",
    ]


def memory_line(peak: int | None) -> list[str]:
    """Return the line of the process's peak memory in bytes; nothing for None."""
    return [] if peak is None else [f"peak memory {memory_text(peak)}"]
