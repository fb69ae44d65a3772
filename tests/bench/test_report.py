"""Laws of the tables: they fit any width and show the same numbers at each."""

from __future__ import annotations

import re

import pytest

from localspec.bench.report import aligned, bench_lines, interval_text, memory_line, wrapped
from localspec.bench.summary import Interval, summaries
from tests.helpers.runs import pair

FOUND = summaries(
    [
        pair(1234.5, 2345.6, f"p{i}", name, turn)
        for name in ("code", "summarization", "translation")
        for i in range(2)
        for turn in range(2)
    ]
)


@pytest.mark.parametrize("width", [40, 60, 77, 78, 80, 200])
def test_lines_fit(width: int) -> None:
    """At forty columns as at eighty."""
    lines = bench_lines(FOUND, width)
    assert max(map(len, lines)) <= width
    assert not any(line != line.rstrip() for line in lines)


def numbers(width: int) -> set[str]:
    """All numbers of the lines, without their headers."""
    text = " ".join(line for line in bench_lines(FOUND, width) if "95% interval" not in line)
    return set(re.findall(r"\d+\.\d+|\d+%|\d+/\d+", text))


def test_narrow_says_what_wide_says() -> None:
    """Every number of the tables is in the blocks."""
    wide, narrow = (numbers(w) for w in (80, 40))
    assert wide == narrow
    assert {"1234.5", "2345.6", "1.90", "75%", "4/4", "12/12"} <= wide


def test_columns_are_aligned() -> None:
    """The first to the left, the others to the right."""
    assert aligned(("a", "bb"), [("ccc", "1"), ("d", "222")]) == ["a     bb", "ccc    1", "d    222"]


def test_an_interval_that_says_nothing_is_not_shown() -> None:
    """A dash, as where there is none."""
    assert interval_text(Interval(1.5, 1.4, 1.6)) == "1.40 to 1.60"
    assert interval_text(Interval(1.5, 0.01, 600.0)) == interval_text(Interval(1.5, None, None)) == "-"


def test_a_sentence_is_wrapped() -> None:
    """Later lines are indented; no text is lost."""
    line = "gpu: like a GPU: nearly flat to 8 rows (drawn, not measured)"
    assert wrapped(line, 40) == ["gpu: like a GPU: nearly flat to 8 rows", "  (drawn, not measured)"]
    assert wrapped(line, 80) == [line]


def test_nothing_to_say() -> None:
    """No pair, no memory known."""
    assert "one token" in bench_lines([], 80)[0]
    assert memory_line(None) == []
    assert memory_line(3 * 2**29) == ["peak memory 1.5 GiB"]
