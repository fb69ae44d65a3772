"""Laws of what is drawn on a terminal: wrapping, tint, control characters, the progress bar."""

from __future__ import annotations

import io
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localspec.cli.terminal.answer import AnswerPrinter, WrappedWriter, char_width
from localspec.cli.terminal.answer_stats import answer_line, session_report
from localspec.cli.terminal.notes import Notes
from localspec.cli.terminal.progress import ProgressBar
from localspec.cli.terminal.style import Style
from localspec.generation.result import Chunk, Completion
from localspec.generation.stats import Stats

PLAIN = Style(on=False)
SGR = re.compile(r"\x1b\[[0-9;]*m")


class Screen(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


def _wrapped(pieces, width, style=PLAIN):
    out = io.StringIO()
    writer = WrappedWriter(out, style, width=lambda: width)
    for piece in pieces:
        writer.write(piece)
    writer.end()
    return out.getvalue()


words = st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), min_size=1, max_size=9)


@given(st.lists(words, min_size=1, max_size=30), st.integers(12, 60), st.data())
def test_wrapping_changes_line_ends_only_and_fits(found, width, data):
    text = " ".join(found)
    if text.startswith(("~", "`")):
        return
    cut = data.draw(st.integers(0, len(text)))
    result = _wrapped([text[:cut], text[cut:]], width)
    cells = [sum(map(char_width, line)) for line in result.split("\n")]
    assert max(cells) <= max(width, *(sum(map(char_width, word)) for word in found))
    assert re.sub(r"\s", "", result) == re.sub(r"\s", "", text)


def test_no_word_is_cut():
    assert _wrapped(["The quick br", "own fox jum", "ps"], 10) == "The quick\nbrown fox\njumps\n"


def test_paragraphs_and_blank_lines_stay():
    assert _wrapped(["One\n\nTwo\n", "\n"], 40) == "One\n\nTwo\n\n"


def test_code_is_never_rewrapped():
    code = "```python\nprint('a long line of code that is wider')  # than that\n```\n"
    assert _wrapped([code], 20) == code
    indented = "    x = 'a long line of code that is wider'\n"
    assert _wrapped([indented], 20) == indented
    assert _wrapped([code, "and prose is again"], 10).endswith("and prose\nis again\n")


def test_scripts_without_spaces_break_anywhere_by_their_width():
    assert _wrapped(["日本語の文章です"], 8) == "日本語の\n文章です\n"


def test_a_word_is_shown_as_soon_as_it_is_whole():
    out = io.StringIO()
    writer = WrappedWriter(out, PLAIN, width=lambda: 40)
    writer.write("One tw")
    assert out.getvalue() == "One"
    writer.write("o ")
    assert out.getvalue() == "One two"


def test_a_resize_counts_from_the_next_word_on():
    out, width = io.StringIO(), [40]
    writer = WrappedWriter(out, PLAIN, width=lambda: width[0])
    writer.write("aaaa bbbb cccc ")
    width[0] = 9
    writer.write("dddd eeee ffff")
    writer.end()
    assert out.getvalue() == "aaaa bbbb cccc\ndddd eeee\nffff\n"


def test_control_characters_do_not_reach_a_terminal_but_a_pipe_gets_all():
    nasty = "a\x1b[2Jb\x07c\x9b1md\re\n"
    for wrap in (True, False):
        screen = Screen()
        WrappedWriter(screen, PLAIN, wrap).write(nasty)
        assert screen.getvalue() == "a[2Jbc1mde\n"
    pipe = io.StringIO()
    WrappedWriter(pipe, PLAIN, wrap=False).write(nasty)
    assert pipe.getvalue() == nasty


def _printed(chunks, *, style, tint=True, show_thought=True):
    out = io.StringIO()
    printer = AnswerPrinter(WrappedWriter(out, style, width=lambda: 40), tint=tint, show_thought=show_thought)
    for chunk in chunks:
        printer.add(chunk)
    printer.end()
    return out.getvalue()


MIXED = [Chunk("One two", (1, 2), ("target", "drafted"), ("One", " two"))]
THOUGHT = [Chunk("hmm", (1,), ("target",), ("hmm",), "thought"), Chunk("Yes.", (2,), ("target",), ("Yes.",))]


def test_only_drafted_tokens_are_tinted_and_only_on_request():
    assert _printed(MIXED, style=Style(on=True)) == "One \x1b[36mtwo\x1b[0m\n"
    assert _printed(MIXED, style=Style(on=True), tint=False) == "One two\n"
    assert _printed(MIXED, style=PLAIN) == "One two\n"


def test_thoughts_are_dimmed_set_apart_or_hidden():
    assert _printed(THOUGHT, style=PLAIN) == "Thinking:\nhmm\n\nYes.\n"
    assert SGR.sub("", _printed(THOUGHT, style=Style(on=True))) == "Thinking:\nhmm\n\nYes.\n"
    assert "\x1b[2mhmm" in _printed(THOUGHT, style=Style(on=True))
    assert _printed(THOUGHT, style=PLAIN, show_thought=False) == "Yes.\n"


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_no_colour_means_no_escape_sequence(monkeypatch, name, value):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("WT_SESSION", "1")
    assert Style.from_stream(Screen()).dim("x") == "\x1b[2mx\x1b[0m"
    assert Style.from_stream(io.StringIO()).dim("x") == "x"
    monkeypatch.setenv(name, value)
    assert Style.from_stream(Screen()).dim("x") == "x"


def test_a_short_wait_shows_no_bar():
    screen = Screen()
    with ProgressBar("Loading", screen, delay_s=60) as bar:
        bar.fraction(0.5)
    assert screen.getvalue() == ""


def test_the_bar_leaves_nothing_behind_and_needs_no_escape_sequences():
    screen = Screen()
    with ProgressBar("Loading", screen, delay_s=0) as bar:
        bar.count(1, 2)
        _wait_for(lambda: "50%" in screen.getvalue())
    *drawn, blank, last = screen.getvalue().split("\r")
    assert blank == " " * len(drawn[-1])
    assert last == ""
    assert "\x1b" not in screen.getvalue()


def test_a_wait_that_nothing_is_known_of_shows_its_seconds():
    screen = Screen()
    with ProgressBar("Loading", screen, delay_s=0):
        _wait_for(lambda: "Loading, 0 s" in screen.getvalue())


def test_an_ended_bar_is_not_drawn_again():
    screen = Screen()
    with ProgressBar("Loading", screen, delay_s=0) as bar:
        _wait_for(screen.getvalue)
        bar.end()
        size = len(screen.getvalue())
        bar.fraction(0.7)
        time.sleep(0.2)
    assert len(screen.getvalue()) == size


def test_no_bar_without_a_terminal():
    out = io.StringIO()
    with ProgressBar("Loading", out, delay_s=0) as bar:
        bar.fraction(0.5)
        time.sleep(0.05)
    assert out.getvalue() == ""


def _wait_for(ready):
    until = time.monotonic() + 10
    while not ready() and time.monotonic() < until:
        time.sleep(0.01)
    assert ready()


@pytest.mark.parametrize("width", [20, 40, 80])
def test_notes_fit_the_terminal(monkeypatch, width):
    monkeypatch.setattr("localspec.cli.terminal.notes.columns", lambda _: width)
    screen = Screen()
    notes = Notes(screen)
    notes.show("A note that is a good deal longer than forty columns, and more than eighty with this part.")
    notes.error("An error that is a good deal longer than forty columns, so that it has to be wrapped as well.")
    notes.pairs([("/help", "a description that does not fit into the rest of a narrow line")])
    assert max(len(SGR.sub("", line)) for line in screen.getvalue().splitlines()) <= max(width, 23)


def _stats(tokens=41, seconds=0.5):
    stats = Stats(prompt_tokens=30, cached_tokens=20, generated_tokens=tokens, generate_s=seconds)
    stats.record(("mtp",) * 3, 2)
    return stats


def test_the_line_after_an_answer():
    done = Completion("x", (1,), "stop", 1, "exact", _stats())
    assert answer_line(done) == "41 tokens, 2.0 accepted/step, 67% accepted, 82 tok/s"
    assert answer_line(Completion("x", (1,), "length", 1, "exact", Stats())) == (
        "0 tokens, 0 tok/s, cut by --max-tokens"
    )


def test_the_session_table_counts_prefill_per_turn_and_fits_40_columns():
    total = Stats()
    for _ in range(2):
        total.add(_stats())
    lines = session_report([_stats(), _stats()], total)
    assert [line.split() for line in lines[1:4]] == [
        ["1", "20", "10", "41", "82", "2.0"],
        ["2", "20", "10", "41", "82", "2.0"],
        ["all", "40", "20", "82", "82", "2.0"],
    ]
    assert max(map(len, lines[:4])) <= 40
    assert session_report([], Stats()) == ["No answer yet."]
