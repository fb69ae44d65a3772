"""Laws of pictures: what is drawn is in the file, the file is whole, and hostile labels do no harm."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localspec.bench.plot.charts import Series, interval_chart, line_chart, tick_text, ticks
from localspec.bench.plot.files import check_folder, save_picture, write_file
from localspec.bench.plot.shapes import Dot, Label, Line, Picture
from localspec.bench.plot.svg import svg
from localspec.bench.plot.terminal import can_show, plot_lines
from localspec.errors import InputError, UsageError

CURVE = Series("target", tuple((float(n), 10.0 + 2.0 * n) for n in (1, 2, 4, 8, 32)))
FINITE = st.floats(0.001, 1e6)


@given(st.text(max_size=30))
def test_svg_is_xml_whatever_it_says(text: str) -> None:
    """Control characters, quotes, tags, lone surrogates."""
    picture = Picture(50, 20, text, (Label(1, 2, text), Line(((0, 0), (5, 5))), Dot(1, 1, 2)))
    root = ElementTree.fromstring(svg(picture))
    names = [child.tag.rpartition("}")[2] for child in root]
    assert names == ["title", "rect", "text", "polyline", "circle"]
    assert len(root[2].text or "") == len(text)


@given(st.lists(st.tuples(FINITE, FINITE), min_size=1, max_size=8))
def test_charts_stay_on_their_paper(points: list[tuple[float, float]]) -> None:
    """All shapes lie inside the picture, for any numbers."""
    curve = Series("a", tuple(sorted(points)))
    rows = [("x" * i * i, y, min(x, y), max(x, y)) for i, (x, y) in enumerate(points)]
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
    assert all(len(tick_text(tick)) <= 8 for tick in found)


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
    """A failed write keeps the old file and leaves no other one."""
    file = tmp_path / "a.svg"
    write_file(file, b"old")
    picture = line_chart("t", "x", "y", [CURVE])
    save_picture(file, picture)
    assert b"<svg" in file.read_bytes()
    save_picture(tmp_path / "A.SVG", picture)
    assert (tmp_path / "A.SVG").read_bytes() == file.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(InputError, match="No space left"):
        write_file(file, b"new")
    assert b"<svg" in file.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["A.SVG", "a.svg"]


def test_names_that_no_picture_can_have(tmp_path: Path) -> None:
    """Each with its sentence."""
    picture = Picture(10, 10, "t", ())
    for name in ("a.png", "a.jpg", "svg"):
        with pytest.raises(UsageError, match=r"ends in \.svg"):
            save_picture(tmp_path / name, picture)
    with pytest.raises(InputError, match="no folder"):
        save_picture(tmp_path / "absent" / "a.svg", picture)
    with pytest.raises(InputError, match="is a folder"):
        check_folder(tmp_path)
