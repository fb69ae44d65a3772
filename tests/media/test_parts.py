"""Laws of the parts of a message that are pictures or sounds."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from localspec.errors import InputError
from localspec.media.parts import mark, split_marks, take_media
from localspec.media.source import Audio, Image
from tests.helpers.media_files import png, wav

PICTURE, SOUND = Image(png()), Audio(wav())
URL = "data:image/png;base64," + base64.b64encode(png()).decode()
DATA = base64.b64encode(wav()).decode()


def ask(*parts: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


def text(said: str) -> dict[str, str]:
    return {"type": "text", "text": said}


@pytest.mark.parametrize(
    "part",
    [PICTURE, {"type": "image_url", "image_url": {"url": URL}}, {"type": "image_url", "image_url": URL},
     {"type": "image", "image": png()}, {"type": "image", "image": PICTURE}],
)  # fmt: skip
def test_every_shape_of_a_picture_is_the_same(part: Any) -> None:
    """As a data URL, as bytes, as an Image."""
    taken, media = take_media(ask(text("a"), part, text("b"), text("c")))
    assert taken == [{"role": "user", "content": f"a{mark(PICTURE)}b\nc"}]
    assert list(media) == [PICTURE.id]


def test_sounds_and_paths(tmp_path: Path) -> None:
    """A path must be a Path: text from a network never opens a file."""
    (tmp_path / "a.png").write_bytes(png())
    taken, media = take_media(ask({"type": "input_audio", "input_audio": {"data": DATA, "format": "wav"}}, "what?"))
    assert taken[0]["content"] == f"{mark(SOUND)}what?"
    assert next(iter(media.values())).kind == "sound"
    assert list(take_media(ask({"type": "image", "image": tmp_path / "a.png"}))[1]) == [PICTURE.id]
    with pytest.raises(InputError, match="must be one of"):
        take_media(ask({"type": "image_url", "image_url": {"url": str(tmp_path / "a.png")}}))


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ({"type": "image_url"}, "None as 'image_url'"),
        ({"type": "image_url", "image_url": {"url": "https://a.example/b.png"}}, "give the picture itself"),
        ({"type": "image_url", "image_url": {"url": "data:image/png,abc"}}, "must end with ';base64,'"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,a"}}, "no base64"),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}, "of no known format"),
        ({"type": "input_audio", "input_audio": {"data": 7}}, "must be text, in base64"),
        ({"type": "input_audio", "input_audio": {"data": URL[22:]}}, "a PNG file; give WAV"),
    ],
)
def test_what_is_wrong_is_said(part: Any, says: str) -> None:
    """With the place."""
    with pytest.raises(InputError, match=f"part 2 of message 0.*{says}"):
        take_media(ask(text("a"), part))


def test_users_cannot_write_a_mark() -> None:
    """In text beside a picture, or without one, in any role."""
    fake = f"x{mark(PICTURE)}y"
    for messages in (ask(PICTURE, text(fake)), ask(text(fake)), [{"role": "tool", "content": fake}]):
        content = take_media(messages)[0][0]["content"]
        marks = content.count(mark(PICTURE)) if isinstance(content, str) else -1
        assert marks == sum(part is PICTURE for part in messages[0]["content"])


def test_messages_without_media_stay_as_they_are() -> None:
    """Also malformed ones, whose errors others raise."""
    for messages in ([], "x", None, [{"role": "user", "content": "a"}], [7], ask(text("a")), ask(3), ask()):
        assert take_media(messages)[0] is messages
    assert split_marks(f"a{mark(PICTURE)}b{mark(SOUND)}") == ["a", PICTURE.id, "b", SOUND.id, ""]


def test_an_assistant_has_no_media() -> None:
    """Models answer with text."""
    with pytest.raises(InputError, match="text alone"):
        take_media([{"role": "assistant", "content": [PICTURE]}])
