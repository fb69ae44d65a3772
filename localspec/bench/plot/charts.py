"""Lay out charts: curves over a number, and values with intervals by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from localspec.bench.plot.shapes import COLOURS, GREY, INK, PALE, Dot, Label, Line, Picture, Shape

#: Size of a line chart, and width of an interval chart, in pixels.
_WIDTH, _HEIGHT = 800, 480
#: Margins in pixels.
_LEFT, _RIGHT, _TOP, _BOTTOM = 78.0, 24.0, 46.0, 58.0
#: Height of a row of an interval chart, in pixels.
_ROW = 34.0
#: Width of a character, as a share of the font's size. SVG leaves the font to the reader; this fits the usual ones.
_CHARACTER = 0.58
#: Characters of a row's name.
_LONGEST_NAME = 30

#: Name, value, and the ends of its interval.
IntervalRow = tuple[str, float, float, float]


@dataclass(frozen=True)
class Series:
    """Points (x, y) of one curve, x rising."""

    name: str
    points: tuple[tuple[float, float], ...]


def ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Return round numbers between ``low`` and ``high``, roughly ``about`` of them."""
    if not high > low:
        return [low]
    rough = (high - low) / about
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def tick_text(value: float) -> str:
    """Format a tick without needless zeros."""
    return f"{value:.10g}" if abs(value) >= 1e-4 or value == 0 else f"{value:.1e}"


def line_chart(title: str, x_label: str, y_label: str, series: Sequence[Series]) -> Picture:
    """Draw curves with a dot at each point, both axes from 0."""
    most_x = max(x for one in series for x, _ in one.points)
    most_y = max(y for one in series for _, y in one.points) * 1.05
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        return _LEFT + width * x / most_x, _TOP + height * (1.0 - y / most_y)

    shapes = [Label(_LEFT, 26, title, size=16), *_axes(place, most_x, most_y, x_label, y_label)]
    for i, one in enumerate(series):
        colour = COLOURS[i % len(COLOURS)]
        points = tuple(place(*point) for point in one.points)
        shapes.append(Line(points, colour, 2.0))
        shapes += [Dot(x, y, 3.5, colour) for x, y in points]
        y = _TOP + 14.0 + 22.0 * i
        shapes += [Line(((_LEFT + 14, y), (_LEFT + 40, y)), colour, 2.0), Dot(_LEFT + 27, y, 3.5, colour)]
        shapes.append(Label(_LEFT + 48, y + 5, one.name))
    return Picture(_WIDTH, _HEIGHT, title, tuple(shapes))


def _axes(
    place: Callable[[float, float], tuple[float, float]], most_x: float, most_y: float, x_label: str, y_label: str
) -> list[Shape]:
    shapes: list[Shape] = []
    for y in ticks(0.0, most_y):
        left, right = place(0, y), place(most_x, y)
        shapes += [Line((left, right), PALE), Label(left[0] - 8, left[1] + 5, tick_text(y), "end", colour=GREY)]
    for x in ticks(0.0, most_x, 8):
        at = place(x, 0)
        shapes += [Line((at, (at[0], at[1] + 5)), GREY), Label(at[0], at[1] + 21, tick_text(x), "middle", colour=GREY)]
    shapes.append(Line((place(0, 0), place(most_x, 0)), GREY))
    middle = place(most_x / 2, most_y / 2)
    shapes.append(Label(middle[0], _HEIGHT - 12, x_label, "middle", colour=INK))
    return [*shapes, Label(22, middle[1], y_label, "middle", turned=True)]


def interval_chart(title: str, x_label: str, rows: Sequence[IntervalRow], mark: float | None = None) -> Picture:
    """Draw a row for each name: the value as a dot, its interval as a line. ``mark``: a value to compare with."""
    names = [name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…" for name, *_ in rows]
    values = [value for _, *three in rows for value in three] + ([] if mark is None else [mark])
    low, high = min(0.0, *values), max(values) * 1.05
    left = 34.0 + _CHARACTER * 14 * max(map(len, names))
    width, height = _WIDTH - left - _RIGHT - 44, round(_TOP + _BOTTOM + _ROW * len(rows))
    bottom = height - _BOTTOM

    def place(x: float) -> float:
        return left + width * (x - low) / (high - low)

    shapes: list[Shape] = [Label(24, 26, title, size=16)]
    for x in ticks(low, high, 8):
        shapes.append(Line(((place(x), _TOP), (place(x), bottom)), PALE))
        shapes.append(Label(place(x), bottom + 20, tick_text(x), "middle", colour=GREY))
    if mark is not None:
        shapes.append(Line(((place(mark), _TOP), (place(mark), bottom)), GREY, 1.5))
    for i, (name, (_, value, least, most)) in enumerate(zip(names, rows, strict=True)):
        y, colour = _TOP + _ROW * (i + 0.5), COLOURS[0] if mark is None or value >= mark else COLOURS[1]
        shapes.append(Label(left - 10, y + 5, name, "end"))
        shapes.append(Line(((place(least), y), (place(most), y)), colour, 2.0))
        ends = (least, most) if least < most else ()  # a value without an interval must not look exact
        shapes += [Line(((place(x), y - 5), (place(x), y + 5)), colour, 2.0) for x in ends]
        shapes += [Dot(place(value), y, 5.0, colour), Label(place(most) + 10, y + 5, f"{value:.2f}", colour=GREY)]
    shapes.append(Label(left + width / 2, height - 12, x_label, "middle"))
    return Picture(_WIDTH, height, title, tuple(shapes))
