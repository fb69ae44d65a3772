"""Laws of the chat at a terminal: keys, pastes, several lines, history; and the whole program on a pty."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from contextlib import suppress

import pytest
from platformdirs import user_data_path
from prompt_toolkit.document import Document
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from localspec.cli.chat.input_line import CommandCompleter, InputLine, history_path, open_history
from tests.helpers.paths import ROOT


@pytest.fixture
def typed(monkeypatch, tmp_path):
    """Reads a message from typed keys."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with create_pipe_input() as keys:
        prompt = InputLine(input=keys, output=DummyOutput())

        def read(text):
            keys.send_text(text)
            return prompt.read()

        yield read


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("hello\r", "hello"),
        ("one\x1b\rtwo\r", "one\ntwo"),
        ("one\\\rtwo\r", "one\ntwo"),
        ("a\\b\r", "a\\b"),
        ("\x1b[200~one\r\ntwo\nthree\x1b[201~\r", "one\ntwo\nthree"),
        ("\x1b[200~def f():\n    return 1\n\x1b[201~\r", "def f():\n    return 1\n"),
        ("helo\x1b[Dl\r", "hello"),
        ("dropped\x03kept\r", "kept"),
    ],
)
def test_keys_make_the_message(typed, keys, message):
    assert typed(keys) == message


def test_ctrl_d_at_an_empty_line_ends(typed):
    with pytest.raises(EOFError):
        typed("\x04")


def test_ctrl_c_at_an_empty_line_is_passed_on(typed):
    with pytest.raises(KeyboardInterrupt):
        typed("\x03")
    assert typed("still here\r") == "still here"


def test_up_brings_the_last_message_also_in_the_next_chat(typed, tmp_path, monkeypatch):
    assert typed("one\x1b\rtwo\r") == "one\ntwo"
    assert typed("\x1b[A\r") == "one\ntwo"
    with create_pipe_input() as keys:
        again = InputLine(input=keys, output=DummyOutput())
        keys.send_text("\x1b[A\r")
        assert again.read() == "one\ntwo"
    if os.name != "nt":
        assert history_path().stat().st_mode & 0o077 == 0


def test_a_history_of_an_earlier_build_is_found(tmp_path, monkeypatch):
    """It is where the system keeps data, also when ``$LOCALSPEC_DATA`` names another folder; a new one is there."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALSPEC_DATA", str(tmp_path / "own"))
    assert history_path() == tmp_path / "own" / "chat-history"
    old = user_data_path("localspec") / "chat-history"
    old.parent.mkdir(parents=True, exist_ok=True)
    old.write_text("\n+before\n", encoding="utf-8")
    assert history_path() == old
    assert list(open_history().load_history_strings()) == ["before"]


def test_a_history_that_cannot_be_kept_is_no_error(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    open_history().append_string("x")


def test_tab_completes_commands_and_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "talk.json").write_text("")

    def complete(text):
        return [c.text for c in CommandCompleter().get_completions(Document(text), None)]

    assert complete("/cl") == ["/clear"]
    assert complete("/load ta") == ["lk.json"]
    assert complete("hello") == []


PTY_PROGRAM = """
import localspec, time
from tests.helpers.fake_engine import FakeEngine, Reply
replies = [Reply("word " * 200, before_word=lambda n: time.sleep(0.02)), Reply("Short one.")]
localspec.load = lambda *a, **k: FakeEngine(replies)
from localspec.cli import cli
cli(["chat", "-m", "tiny"])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pty")
def test_the_whole_chat_on_a_pty(tmp_path):
    import pty

    child, terminal = pty.fork()
    if child == 0:
        os.environ.update(
            PYTHONPATH=str(ROOT), TERM="xterm", XDG_DATA_HOME=str(tmp_path), NO_COLOR="1", PROMPT_TOOLKIT_NO_CPR="1"
        )
        os.execv(sys.executable, [sys.executable, "-c", PTY_PROGRAM])
    seen = ""

    def wait_for(text):
        nonlocal seen
        until = time.monotonic() + 20
        while text not in seen:
            assert select.select([terminal], [], [], max(0, until - time.monotonic()))[0], seen
            seen += os.read(terminal, 4096).decode("utf-8", "replace")
        seen = seen.partition(text)[2]

    try:
        wait_for("/help lists the rest.")
        wait_for(">")
        os.write(terminal, b"go\r")
        wait_for("word word")
        os.write(terminal, b"\x03")
        wait_for("Stopped after")
        wait_for(">")
        os.write(terminal, b"again\r")
        wait_for("Short one.")
        wait_for("accepted/step")
        wait_for(">")
        os.write(terminal, b"\x04")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(child, signal.SIGKILL)
        os.close(terminal)
