"""Laws of the demonstration: two equal texts, fewer passes, marks under the drafted tokens, lines that fit."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import localspec
from localspec.cli.bench.demo import DEPTH, PROMPT, decode_seconds, demo_lines, marked_lines, picture_lines
from localspec.cli.terminal.style import Style
from localspec.control.costs import Costs, Curve, DraftCosts
from localspec.engine import Engine
from localspec.generation.stats import Stats
from localspec.llama import binding
from scripts.check.demo import difference

README = Path(__file__).parent.parent.parent / "README.md"
PLAIN, COLOUR = Style(False), Style(True)
SGR = re.compile(r"\x1b\[\d+m")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with localspec.load("tiny", threads=1, gpu_layers=0) as found:
        yield found


def shape(lines: list[str]) -> list[str]:
    """Lines without the story and without digits: another kind of CPU may choose another token."""
    end = next(i for i, line in enumerate(lines) if line.startswith("Underlined"))
    return [re.sub(r"[\d.]+", "N", line) for line in lines[: lines.index(f"> {PROMPT}") + 1] + lines[end:]]


def test_readme_shows_the_output(engine: Engine) -> None:
    """The README has the output at 80 columns without colour."""
    block = re.search(r"```text\n(The built-in pair answers.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    assert shape(block[1].splitlines()) == shape([*demo_lines(engine, 80, PLAIN), "", *picture_lines(engine, 80)])


def test_check_of_the_readme_finds_every_changed_line() -> None:
    """A line that is changed, lost or added, another block, and no output at all."""
    shown = "A\n\nb 1\n"
    readme = f"```text\nother\n```\n\n```text\n{shown}```\n"
    assert difference(readme, shown) == []
    for output in ("A\n\nb 2\n", "A\n", shown + "c\n", "other\n" + shown, ""):
        assert difference(readme, output)


@pytest.mark.parametrize("width", [60, 80])
def test_drafting_takes_fewer_passes_for_the_same_text(engine: Engine, width: int) -> None:
    """At any width, with colour and without."""
    plain, colour = (demo_lines(engine, width, style) for style in (PLAIN, COLOUR))
    assert max(map(len, plain)) <= width
    assert "Both texts are identical." in plain
    tokens, passes, each = next(line for line in plain if line.startswith("with drafts")).split()[-3:]
    assert float(each) == pytest.approx(int(tokens) / int(passes), abs=0.01)
    assert float(each) > 2
    bare = [SGR.sub("", line) for line in colour]
    assert "\n".join(bare).replace("Coloured", "Underlined") == "\n".join(
        line for line in plain if not line.startswith("~") and not (line.strip() and not line.strip("~ "))
    )


def test_the_picture_is_seen(engine: Engine) -> None:
    """Its colour and its shape."""
    assert "blue square" in picture_lines(engine, 80)[-1]


def test_a_llama_cpp_that_reads_no_pictures_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the place of the answer, without a traceback."""
    monkeypatch.setitem(sys.modules, "llama_cpp.mtmd_cpp", None)
    binding.mtmd.cache_clear()
    with localspec.load("tiny", threads=1, gpu_layers=0) as bare:
        text = " ".join(picture_lines(bare, 80))
    monkeypatch.undo()
    binding.mtmd.cache_clear()
    assert "install llama-cpp-python" in text


def test_marks_are_under_drafted_tokens() -> None:
    """A space is marked inside a drafted run only; lines break at spaces, or inside a word that is too long."""
    pieces = [("One", False), (" two", True), (" three", True), (" four", False), ("abcdefghijklm", True)]
    lines = marked_lines(pieces, 10, PLAIN)
    assert lines[::2] == ["One two", "three", "fourabcdef", "ghijklm"]
    assert lines[1::2] == ["    ~~~", "~~~~~", "    ~~~~~~", "~~~~~~~"]
    assert marked_lines(pieces[:2], 10, COLOUR) == ["One \x1b[36mtwo\x1b[0m"]
    assert marked_lines([], 10, PLAIN) == []


def test_time_at_a_curve_counts_every_pass_and_draft() -> None:
    """Steps by their number of draft tokens; the first step costs nothing, its row comes with the prompt."""
    costs = Costs(Curve((1, 2, 4), (1.0, 2.0, 3.0)), {"mtp": DraftCosts(Curve((1,), (0.1,)), 0.1)}, 0.01)
    stats = Stats()
    for depth, accepted in ((0, 0), (DEPTH, 2), (1, 1), (0, 0)):
        stats.record(("mtp",) * depth, accepted)
    assert decode_seconds(stats, costs, "mtp") == pytest.approx(3.0 + 0.3 + 2.0 + 0.1 + 1.0 + 3 * 0.01)
