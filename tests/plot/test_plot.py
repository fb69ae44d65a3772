"""Laws of pictures: what is drawn is in the file, the file is whole, and hostile words do no harm."""

from __future__ import annotations

import string
import struct
import zlib
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from localspec.bench.plot.charts import Series, interval_chart, line_chart, ticks, told
from localspec.bench.plot.files import check_folder, save_picture, write_file
from localspec.bench.plot.letters import strokes, text_width
from localspec.bench.plot.png import SCALE, png
from localspec.bench.plot.shapes import Dot, Line, Picture, Words
from localspec.bench.plot.svg import svg
from localspec.bench.plot.terminal import can_show, plot_lines
from localspec.errors import InputError, UsageError

CURVE = Series("target", tuple((float(n), 10.0 + 2.0 * n) for n in (1, 2, 4, 8, 32)))
FINITE = st.floats(0.001, 1e6)


def pixels(data: bytes) -> NDArray[np.uint8]:
    """A PNG file of ours, read by the specification: every chunk's sum checked, rows without filters."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, parts = 8, {}
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length)[0] == zlib.crc32(kind + body)
        parts[kind], at = body, at + 12 + length
    assert list(parts) == [b"IHDR", b"IDAT", b"IEND"]
    width, height, *rest = struct.unpack(">IIBBBBB", parts[b"IHDR"])
    assert rest == [8, 2, 0, 0, 0]
    rows = np.frombuffer(zlib.decompress(parts[b"IDAT"]), np.uint8).reshape(height, 1 + 3 * width)
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, 3)


def test_a_png_has_the_shapes_where_they_are() -> None:
    """A dot's colour at its middle, a line's along it, white elsewhere."""
    shapes = (Dot(20, 10, 5, "#0072b2"), Line(((50, 10), (90, 30)), "#d55e00", 4))
    found = pixels(png(Picture(100, 40, "t", shapes)))
    assert found.shape == (40 * SCALE, 100 * SCALE, 3)
    assert tuple(found[10 * SCALE, 20 * SCALE]) == (0x00, 0x72, 0xB2)
    assert tuple(found[20 * SCALE, 70 * SCALE]) == (0xD5, 0x5E, 0x00)
    assert (found[:, :10] == 255).all()
    assert (found[30 * SCALE :, : 80 * SCALE] == 255).all()


def test_shapes_beyond_the_edges_are_cut() -> None:
    """Nothing outside is drawn, and nothing fails."""
    shapes = (Dot(-50, 500, 3), Line(((-10, 5), (30, 5)), width=2), Words(9, 9, "far too long for this"))
    found = pixels(png(Picture(10, 10, "t", shapes)))
    assert (found[5 * SCALE] < 255).any(axis=1).all()


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("anchor", "share"), [("start", 0.0), ("middle", 0.5), ("end", 1.0)])
def test_words_lie_where_their_anchor_says(anchor: str, share: float, turned: bool) -> None:
    """As wide as is computed for them, read from below where they are turned."""
    words = Words(150, 150, "milliseconds", anchor, 20, turned=turned)  # type: ignore[arg-type]
    found = (pixels(png(Picture(300, 300, "t", (words,)))) < 200).any(axis=2)
    along = np.flatnonzero(found.any(axis=1 if turned else 0)) / SCALE
    wide = text_width(words.text, words.size)
    start = 150 + share * wide - wide if turned else 150 - share * wide
    assert (along[0], along[-1]) == pytest.approx((start, start + wide), abs=2)


def test_every_printable_letter_is_drawn_and_no_two_alike() -> None:
    """ASCII; another letter is a box."""
    drawn = {letter: str(strokes(letter, 10)) for letter in string.printable[:94]}
    assert len(set(drawn.values())) == 94
    assert all("(" in lines for lines in drawn.values())
    assert strokes("é", 10) == strokes("ß", 10)
    assert strokes("–", 10) == strokes("-", 10)


@given(st.text(max_size=30))
def test_svg_is_xml_whatever_it_says(text: str) -> None:
    """Control characters, quotes, tags, lone surrogates."""
    picture = Picture(50, 20, text, (Words(1, 2, text), Line(((0, 0), (5, 5))), Dot(1, 1, 2)))
    root = ElementTree.fromstring(svg(picture))
    names = [child.tag.rpartition("}")[2] for child in root]
    assert names == ["title", "rect", "text", "polyline", "circle"]
    assert len(root[2].text or "") == len(text)


@given(st.lists(st.tuples(FINITE, FINITE), min_size=1, max_size=8))
def test_charts_stay_on_their_paper(points: list[tuple[float, float]]) -> None:
    """Whatever the numbers."""
    curve = Series("a", tuple(sorted(points)))
    rows = [(str(i), y, min(x, y), max(x, y)) for i, (x, y) in enumerate(points)]
    for picture in (line_chart("t", "x", "y", [curve]), interval_chart("t", "x", rows, mark=1.0)):
        for shape in picture.shapes:
            places = shape.points if isinstance(shape, Line) else [(shape.x, shape.y)]
            assert all(0 <= x <= picture.width and 0 <= y <= picture.height for x, y in places)


@given(FINITE, st.integers(3, 12))
def test_ticks_are_round_and_few(most: float, about: int) -> None:
    """From zero to the end, evenly, and their numbers are short."""
    found = ticks(0.0, most, about)
    assert found[0] == 0
    assert 2 <= len(found) <= 2.6 * about + 1
    assert found[-1] <= most * 1.000001
    assert np.allclose(np.diff(found), found[1])
    assert all(len(told(tick)) <= 8 for tick in found)


@pytest.mark.parametrize("unicode", [True, False])
@pytest.mark.parametrize("width", [30, 40, 80])
def test_a_terminal_plot_fits_and_rises(width: int, unicode: bool) -> None:
    """A rising curve is higher to the right, and names its numbers."""
    lines = plot_lines([CURVE], "tokens", width, 10, unicode=unicode)
    assert max(map(len, lines)) <= width
    body = [line.partition("│" if unicode else "|")[2] for line in lines[:10]]
    ends = [len(row.rstrip()) for row in body if row.strip()]
    assert ends == sorted(ends, reverse=True)
    assert "50" in "".join(lines)
    assert lines[-1].strip() == "tokens"
    assert unicode or "".join(lines).isascii()


@given(st.lists(st.tuples(FINITE, FINITE), min_size=1, max_size=8), st.integers(10, 90), st.integers(3, 20))
def test_a_terminal_plot_takes_any_numbers(points: list[tuple[float, float]], width: int, height: int) -> None:
    """One point or many."""
    for unicode in (True, False):
        lines = plot_lines([Series("a", tuple(sorted(points)))], "x", width, height, unicode=unicode)
        assert len(lines) == height + 3


def test_what_a_stream_can_show() -> None:
    """Braille where the encoding has it."""
    assert can_show("utf-8")
    assert not any(can_show(name) for name in ("ascii", "latin-1", "cp437", "no such", None))


def test_a_file_is_written_whole_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was there stays when writing fails, and nothing else is left."""
    file = tmp_path / "a.svg"
    write_file(file, b"old")
    picture = line_chart("t", "x", "y", [CURVE])
    save_picture(file, picture)
    assert b"<svg" in file.read_bytes()
    save_picture(tmp_path / "A.PNG", picture)
    assert pixels((tmp_path / "A.PNG").read_bytes()).shape == (960, 1600, 3)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(InputError, match="No space left"):
        write_file(file, b"new")
    assert b"<svg" in file.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["A.PNG", "a.svg"]


def test_names_that_no_picture_can_have(tmp_path: Path) -> None:
    """Each with its sentence."""
    picture = Picture(10, 10, "t", ())
    with pytest.raises(UsageError, match=r"\.png or \.svg"):
        save_picture(tmp_path / "a.jpg", picture)
    with pytest.raises(InputError, match="no folder"):
        save_picture(tmp_path / "absent" / "a.png", picture)
    with pytest.raises(InputError, match="is a folder"):
        check_folder(tmp_path)
