"""Text files of a user, read piece by piece."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from localspec.errors import InputError

#: Bytes that are tokenised at once.
_PIECE = 1 << 16
#: Bytes that decide whether a file is text.
_LOOK = 1 << 12


def text_files(source: Path) -> Iterator[Path]:
    """Yield ``source`` itself, or the text files below a folder in order."""
    try:
        if not source.is_dir():
            if source.exists() and not (source.is_file() and _is_text(source)):
                raise InputError(f"{source} is not a text file; give text like that which the model will write.")
            source.stat()
            yield source
            return
        for path in sorted(source.rglob("*")):
            hidden = any(part.startswith(".") for part in path.relative_to(source).parts)
            if not hidden and not path.is_symlink() and path.is_file() and os.access(path, os.R_OK) and _is_text(path):
                yield path
    except OSError as error:
        raise InputError(
            f"{source} cannot be read: {error.strerror or error}. Give a text file or a folder."
        ) from error


def _is_text(path: Path) -> bool:
    with path.open("rb") as stream:
        start = stream.read(_LOOK)
    if b"\0" in start:
        return False
    try:
        start[: len(start) - 4 if len(start) == _LOOK else None].decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start >= len(start) - 8 > 0  # only the last character is incomplete
    return True


def pieces(path: Path, limit: int) -> Iterator[str]:
    """Yield the first ``limit`` bytes of a file as texts that end at the end of a line, if possible."""
    left = b""
    try:
        with path.open("rb") as stream:
            while limit > 0 and (block := stream.read(min(_PIECE, limit))):
                limit -= len(block)
                whole, newline, rest = (left + block).rpartition(b"\n")
                if not newline and len(rest) < 16 * _PIECE:
                    left = rest
                    continue
                yield (whole + newline or rest).decode("utf-8", errors="replace")
                left = rest if newline else b""
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}. Give a text file or a folder.") from error
    if left:
        yield left.decode("utf-8", errors="replace")


def check_exist(sources: Iterable[Path]) -> None:
    """Raise InputError for the first of ``sources`` that does not exist."""
    for source in sources:
        if not source.exists():
            raise InputError(f"{source} does not exist; give a text file or a folder of them with --from.")
