"""Letters as strokes, for pictures in pixels: ASCII, drawn by hand on a grid of 4 by 8 with the baseline at 2.

A stroke is a string of points, two digits each: x from 0 to 4, y from 0 (below the baseline) to 8 (the capitals' top).
"""

from __future__ import annotations

_BASELINE, _CAPITAL, _GAP, _SPACE = 2.0, 6.0, 1.8, 3.0  # in units of the grid
_HIGH = 0.72  # height of a capital, as a share of the size of the text

_STROKES = {
    "!": "2824 2322", '"': "1816 3836", "#": "1218 3238 0444 0646", "$": "473818070615354443321203 2822",
    "%": "0248 0818170708 3343423233", "&": "4206071827260403122244", "'": "2826", "(": "38272332", ")": "18272312",
    "*": "2723 0644 4604", "+": "2327 0545", ",": "232211", "-": "0545", ".": "2322", "/": "0148",
    "0": "182837332212030718", "1": "072822 1232", "2": "07183847460242", "3": "0718384746354443321203 1535",
    "4": "32380444", "5": "480805354443321203", "6": "4738180703123243443505", "7": "084812",
    "8": "15060718384746351504031232434435", "9": "0312324347381807061545", ":": "2322 2625", ";": "2625 232211",
    "<": "470543", "=": "0646 0444", ">": "074503", "?": "071838474624 2322", "@": "4332120307183847443424253646",
    "A": "022842 1535", "B": "02083847463505 3544433202", "C": "4738180703123243", "D": "02083847433202",
    "E": "48080242 0535", "F": "480802 0535", "G": "47381807031232434525", "H": "0208 4248 0545",
    "I": "1838 2822 1232", "J": "4843321203", "K": "0208 4804 1542", "L": "080242", "M": "0208254842",
    "N": "02084248", "O": "183847433212030718", "P": "02083847463505", "Q": "183847433212030718 2442",
    "R": "02083847463505 2542", "S": "473818070615354443321203", "T": "0848 2822", "U": "080312324348",
    "V": "082248", "W": "0812253248", "X": "0248 0842", "Y": "082548 2522", "Z": "08480242",
    "[": "38282232", "\\": "0841", "]": "18282212", "^": "162836", "_": "0141", "`": "1827",
    "a": "16364542 441403123243", "b": "0802 0516364543321203", "c": "4536160503123243",
    "d": "4842 4536160503123243", "e": "04444536160503123243", "f": "382722 0636", "g": "4641301001 4536160503123243",
    "h": "0802 0516364542", "i": "2622 2827", "j": "36312010 3837", "k": "0802 4603 1442", "l": "2822",
    "m": "0602 05162522 25364542", "n": "0602 0516364542", "o": "163645433212030516", "p": "0600 0516364543321203",
    "q": "4640 4536160503123243", "r": "0602 05163645", "s": "45361605143443321203", "t": "28233243 0646",
    "u": "0603123243 4642", "v": "062246", "w": "0612243246", "x": "0642 0246", "y": "0622 4610", "z": "06460242",
    "{": "38272615242332", "|": "2821", "}": "18272635242312", "~": "0415253445", " ": "",
}  # fmt: skip
_LIKE = {"–": "-", "—": "-", "−": "-", "×": "x", "’": "'", "…": "."}
_UNKNOWN = "0208484202"

Point = tuple[float, float]


def strokes(text: str, size: float) -> list[list[Point]]:
    """The polylines of ``text`` from its left end on, in pixels, y upwards from the baseline.

    A letter that is not drawn here is a box.
    """
    found, at, unit = list[list[Point]](), 0.0, size * _HIGH / _CAPITAL
    for letter in text:
        lines, left, wide = _letter(letter)
        found += [[(unit * (at + x - left), unit * (y - _BASELINE)) for x, y in line] for line in lines]
        at += wide + _GAP
    return found


def text_width(text: str, size: float) -> float:
    """Pixels that ``text`` takes."""
    return max(0.0, sum(_letter(letter)[2] + _GAP for letter in text) - _GAP) * size * _HIGH / _CAPITAL


def _letter(letter: str) -> tuple[list[list[Point]], float, float]:
    """Polylines on the grid, their left edge, their width."""
    drawn = _STROKES.get(_LIKE.get(letter, letter), _UNKNOWN).split()
    lines = [[(float(line[i]), float(line[i + 1])) for i in range(0, len(line), 2)] for line in drawn]
    across = [x for line in lines for x, _ in line]
    return lines, min(across, default=0.0), max(across, default=_SPACE) - min(across, default=0.0)
