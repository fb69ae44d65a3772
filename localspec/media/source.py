"""Files of pictures and sounds: the formats that are read, by their first bytes, and their identity."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import ClassVar

from localspec.errors import InputError
from localspec.files import reason

#: Most bytes of a file.
MOST_BYTES = 64 * 2**20
_PICTURES = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG"}
#: Names of formats that are not read, for messages: offset, first bytes, name.
_OTHERS = (
    (0, b"GIF8", "a GIF"), (8, b"WEBP", "a WebP"), (0, b"BM", "a BMP"), (0, b"II*\x00", "a TIFF"),
    (0, b"MM\x00*", "a TIFF"), (4, b"ftypavif", "an AVIF"), (4, b"ftyphei", "a HEIC"), (4, b"ftypmif", "a HEIC"),
    (4, b"ftyp", "an MP4 or M4A"), (0, b"OggS", "an Ogg"), (0, b"\x1aE\xdf\xa3", "a WebM or Matroska"),
    (0, b"%PDF", "a PDF"), (0, b"<svg", "an SVG"), (0, b"<?xml", "an XML or SVG"), (0, b"FORM", "an AIFF"),
)  # fmt: skip


class Media:
    """A picture or a sound in memory: its ``data``, and the SHA-256 of that as ``id``. Not decoded yet.

    ``source`` is a path, or the bytes of a file. Raises :class:`InputError` for a file that cannot be read, that is
    empty or too large, or whose first bytes are of no format that is read.
    """

    kind: ClassVar[str]
    #: Formats that are read.
    formats: ClassVar[tuple[str, ...]]

    def __init__(self, source: str | Path | bytes, name: str | None = None) -> None:
        """``name`` is used in errors; default: the path."""
        self.name = name or (f"the {self.kind}" if isinstance(source, bytes) else str(source))
        self.data = source if isinstance(source, bytes) else _read(Path(source).expanduser(), self.kind)
        if len(self.data) > MOST_BYTES:
            raise InputError(f"{self.name} has {len(self.data)} bytes; {MOST_BYTES} are the most. Make it smaller.")
        self.format = sniff(self.data)
        if self.format not in self.formats:
            *most, last = self.formats
            raise InputError(f"{self.name} is {_what(self.data)}; give {', '.join(most)} or {last}, or convert it.")
        self.id = hashlib.sha256(self.data).hexdigest()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


class Image(Media):
    """A picture for a message: ``{"role": "user", "content": ["What is this?", Image("photo.jpg")]}``."""

    kind, formats = "picture", ("PNG", "JPEG")


class Audio(Media):
    """A sound for a message, like :class:`Image`."""

    kind, formats = "sound", ("WAV", "MP3", "FLAC")


def sniff(data: bytes) -> str:
    """Return the format by the first bytes: PNG, JPEG, WAV, MP3 or FLAC; ``""`` for any other."""
    for magic, name in _PICTURES.items():
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return "WAV"
    if data.startswith(b"fLaC"):
        return "FLAC"
    is_frame = len(data) > 2 and data[0] == 0xFF and data[1] & 0xE6 == 0xE2  # MPEG audio, layer 3
    return "MP3" if data.startswith(b"ID3") or is_frame else ""


def media_of(path: str | Path) -> Media:
    """Return the picture or sound in a file, whichever it is. Raises as :class:`Media` does."""
    data = _read(Path(path).expanduser(), "file")
    return Audio(data, str(path)) if sniff(data) in Audio.formats else Image(data, str(path))


def _what(data: bytes) -> str:
    """Name a format for a message."""
    if not data:
        return "empty"
    if known := sniff(data):
        return f"a {known} file"
    return next((f"{name} file" for at, magic, name in _OTHERS if data[at:].startswith(magic)), "of no known format")


def _read(path: Path, kind: str) -> bytes:
    try:
        if not path.is_file():
            raise InputError(f"there is no {kind} {path}; check the name.")
        with path.open("rb") as stream:
            return stream.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise InputError(f"the {kind} {path} cannot be read ({reason(error)}).") from None
