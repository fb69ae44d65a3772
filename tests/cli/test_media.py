"""Laws of pictures and sounds on the command line and in the chat."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from localspec.cli.chat.session import Session, Switches
from localspec.cli.chat.slash_commands import handle_line
from localspec.cli.chat.transcript import Transcript, pasted_media
from localspec.cli.options.answer import AnswerOptions
from localspec.cli.terminal.notes import Notes
from localspec.media.source import Audio, Image
from tests.helpers.media_files import png, wav

ANSWER = AnswerOptions(temperature=0.8, top_k=40, top_p=0.95, min_p=0.05, seed=None, stop=(), max_tokens=None)


@pytest.fixture(autouse=True)
def _files(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(1))
    (tmp_path / "two words.png").write_bytes(png(2))
    (tmp_path / "s.wav").write_bytes(wav())
    (tmp_path / "notes.txt").write_text("no picture")


@pytest.fixture
def session(program: Any) -> Any:
    """A chat with a person, whose notes can be read."""
    notes = io.StringIO()
    made: Any = Session(program.engine, Transcript(), ANSWER, Switches(), Notes(notes), interactive=True)
    made.told = notes.getvalue
    return made


def kinds(content: Any) -> list[str]:
    """Names of the parts of a content: a kind of media, or a text."""
    if isinstance(content, str):
        return [content]
    return [part.kind if isinstance(part, Image | Audio) else part["text"] for part in content]


def asked(program: Any) -> list[list[str]]:
    """Contents of the last message of each request."""
    return [kinds(messages[-1]["content"]) for messages in program.engine.asked]


def test_files_go_before_the_prompt(program: Any) -> None:
    """Pictures, then sounds, in order; without the flags the content is text."""
    program("generate", "-p", "Hi", "--audio", "s.wav", "--image", "a.png", "--image", "two words.png")
    program("chat", "-p", "Hi", "--image", "a.png", input="")
    program("generate", "-p", "Hi")
    assert asked(program) == [["picture", "picture", "sound", "Hi"], ["picture", "Hi"], ["Hi"]]


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["--image", "gone.png"], 1, "there is no picture gone.png"),
        (["--image", "notes.txt"], 1, "of no known format; give PNG or JPEG"),
        (["--audio", "a.png"], 1, "a PNG file; give WAV, MP3 or FLAC"),
        (["--image", "a.png", "--raw"], 2, "--image needs the chat template"),
        (["--image-tokens", "many"], 2, "no range"),
        (["--image-tokens", "9-3"], 2, "the least first"),
    ],
)
def test_what_cannot_be_shown_is_said(program: Any, args: list[str], code: int, says: str) -> None:
    """Before a model is loaded."""
    result = program("generate", "-p", "Hi", *args)
    assert result.exit_code == code
    assert says in result.stderr
    assert not program.loads


def test_messages_and_lines_hold_media(program: Any, tmp_path: Path) -> None:
    """As in the OpenAI chat API; beside --image they are the whole conversation."""
    url = "data:image/png;base64," + __import__("base64").b64encode(png(1)).decode()
    parts = [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": {"url": url}}]
    messages = [{"role": "user", "content": parts}]
    (tmp_path / "m.json").write_text(json.dumps(messages))
    (tmp_path / "l.jsonl").write_text(json.dumps({"id": 1, "messages": messages}))
    program("generate", "--messages", "m.json")
    program("generate", "--jsonl", "l.jsonl")
    assert asked(program) == [["What?", "picture"]] * 2
    assert program("generate", "--messages", "m.json", "--image", "a.png").exit_code == 2
    assert program("generate", "--jsonl", "l.jsonl", "--image", "a.png").exit_code == 2


def test_commands_and_pasted_paths_attach(program: Any, session: Any, tmp_path: Path) -> None:
    """To the next message, with whatever text follows a path; other paths are text."""
    for line in (
        "/image a.png",
        "/audio s.wav",
        "What is it?",
        f"{tmp_path}/two\\ words.png And this?",
        f"'{tmp_path}/two words.png'",
        "Now?",
        "notes.txt",
    ):
        handle_line(session, line)
    assert asked(program) == [
        ["picture", "sound", "What is it?"],
        ["picture", "And this?"],
        ["picture", "Now?"],
        ["notes.txt"],
    ]
    assert session.told().count("goes with your next message") == 4


def test_a_model_without_eyes_is_told(program: Any, session: Any) -> None:
    """By a command; a pasted path is text to it."""
    program.engine.media = frozenset()
    handle_line(session, "/image a.png")
    handle_line(session, "a.png")
    assert asked(program) == [["a.png"]]
    assert "reads no pictures" in session.told()


def test_a_saved_conversation_holds_its_pictures(session: Any) -> None:
    """In one file, which another session reads."""
    for line in ("/image a.png", "/audio s.wav", "What?", "/save c.json"):
        handle_line(session, line)
    loaded = Transcript.load("c.json")
    assert kinds(loaded.messages[0]["content"]) == ["picture", "sound", "What?"]
    assert [part.id for part in loaded.messages[0]["content"][:2]] == [Image(png(1)).id, Audio(wav()).id]
    assert loaded.messages[1]["content"] == "Hello there."


@pytest.mark.parametrize(
    "text", ["", "a.png\nmore", "Look: a.png", "gone.png", "/", "~nobody/x.png", "a\0.png", "'a.png"]
)
def test_other_texts_are_no_paths(text: str) -> None:
    """Nor do they raise."""
    found = pasted_media(text)
    assert found is None or (text == "a.png\nmore" and found[1] == "more")
