"""What charts are made of: lines, dots and words at places in pixels, from the upper left. Knows no file format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Anchor = Literal["start", "middle", "end"]

INK, GREY, PALE = "#222222", "#6b6b6b", "#dddddd"
#: Told apart by people who see colours differently (Okabe and Ito 2008).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


@dataclass(frozen=True)
class Line:
    """A polyline of ``width`` pixels."""

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
class Words:
    """Text of ``size`` pixels whose baseline passes ``y``; ``anchor`` says which part of it is at ``x``."""

    x: float
    y: float
    text: str
    anchor: Anchor = "start"
    size: float = 14.0
    colour: str = INK
    turned: bool = False
    """Read from below."""


Shape = Line | Dot | Words


@dataclass(frozen=True)
class Picture:
    """Shapes on white paper, later ones above earlier ones; ``title`` is what it shows."""

    width: int
    height: int
    title: str
    shapes: tuple[Shape, ...]
