"""Draw curves in a terminal: braille characters, four by two dots each, or ASCII."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from localspec.bench.plot.charts import Series, tick_text, ticks

#: Bits of a braille character's dots, by row and column (Unicode block 2800).
_BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
#: The braille character without dots.
_BRAILLE = 0x2800
#: Marks of the curves in ASCII, in order.
MARKS = "*o+x#@"


def plot_lines(series: Sequence[Series], x_label: str, width: int, height: int, *, unicode: bool = True) -> list[str]:
    """Return curves from (0, 0) up in ``height`` rows and at most ``width`` columns, with both axes."""
    most_x = max(x for one in series for x, _ in one.points)
    most_y = max(y for one in series for _, y in one.points)
    marks = [tick for tick in ticks(0.0, most_y, max(3, height // 3)) if tick > 0]
    left = max(len(tick_text(tick)) for tick in (0.0, *marks)) + 1
    columns = max(8, width - left - 1)
    grid = _braille if unicode else _ascii
    cells = grid(series, columns, height, most_x, most_y)
    names = {round((height - 1) * (1.0 - tick / most_y)): tick_text(tick) for tick in (0.0, *marks)}
    bar = "│" if unicode else "|"
    lines = [f"{names.get(row, ''):>{left}}{bar}{cells[row]}".rstrip() for row in range(height)]
    foot = ("└" + "─" * columns) if unicode else ("+" + "-" * columns)
    return [*lines, " " * left + foot, *_x_axis(most_x, x_label, left, columns)]


def _x_axis(most_x: float, x_label: str, left: int, columns: int) -> list[str]:
    """Return the x axis's numbers, where they fit, and its label."""
    line = [" "] * (left + 1 + columns)
    free = 0
    for tick in ticks(0.0, most_x, max(3, columns // 8)):
        text = tick_text(tick)
        at = min(left + 1 + round((columns - 1) * tick / most_x) - len(text) // 2, len(line) - len(text))
        if at >= free:
            line[at : at + len(text)] = text
            free = at + len(text) + 1
    return ["".join(line).rstrip(), f"{x_label:>{left + 1 + columns}}" if len(x_label) <= columns else x_label]


def _dots(one: Series, wide: int, high: int, most_x: float, most_y: float) -> list[tuple[int, int]]:
    """Return the (column, row from above) of a grid that a curve passes, linear between its points."""
    places = [((wide - 1) * x / most_x, (high - 1) * (1.0 - y / most_y)) for x, y in one.points]
    found = [(round(x), round(y)) for x, y in places[:1]]
    for (x0, y0), (x1, y1) in pairwise(places):
        count = max(1, round(2 * max(abs(x1 - x0), abs(y1 - y0))))
        found += [(round(x0 + (x1 - x0) * i / count), round(y0 + (y1 - y0) * i / count)) for i in range(1, count + 1)]
    return found


def _braille(series: Sequence[Series], columns: int, height: int, most_x: float, most_y: float) -> list[str]:
    cells = [[0] * columns for _ in range(height)]
    for one in series:
        for x, y in _dots(one, 2 * columns, 4 * height, most_x, most_y):
            cells[y // 4][x // 2] |= _BITS[y % 4][x % 2]
    return ["".join(chr(_BRAILLE + cell) if cell else " " for cell in row) for row in cells]


def _ascii(series: Sequence[Series], columns: int, height: int, most_x: float, most_y: float) -> list[str]:
    cells = [[" "] * columns for _ in range(height)]
    for i, one in enumerate(series):
        for x, y in _dots(one, columns, height, most_x, most_y):
            cells[y][x] = MARKS[i % len(MARKS)]
    return ["".join(row) for row in cells]


def can_show(encoding: str | None) -> bool:
    """Return True if a stream of this encoding can print the characters of :func:`plot_lines`."""
    try:
        "│└─⠿".encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
