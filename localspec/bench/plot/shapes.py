"""Parts of a picture: lines, dots and labels at pixel positions from the upper left corner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Anchor = Literal["start", "middle", "end"]

#: Text and lines.
INK = "#222222"
#: Numbers and axes.
GREY = "#6b6b6b"
#: Grid lines.
PALE = "#dddddd"
#: Curves, in order; the palette of Okabe and Ito (2008), which colour-blind readers can tell apart.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


@dataclass(frozen=True)
class Line:
    """A polyline, ``width`` pixels thick."""

    points: tuple[tuple[float, float], ...]
    colour: str = INK
    width: float = 1.0


@dataclass(frozen=True)
class Dot:
    """A filled circle."""

    x: float
    y: float
    radius: float
    colour: str = INK


@dataclass(frozen=True)
class Label:
    """Text of ``size`` pixels on the baseline ``y``; its ``anchor`` end is at ``x``. ``turned``: read from below."""

    x: float
    y: float
    text: str
    anchor: Anchor = "start"
    size: float = 14.0
    colour: str = INK
    turned: bool = False


Shape = Line | Dot | Label


@dataclass(frozen=True)
class Picture:
    """Shapes on white paper of ``width`` by ``height`` pixels, later ones on top. ``title``: for screen readers."""

    width: int
    height: int
    title: str
    shapes: tuple[Shape, ...]
