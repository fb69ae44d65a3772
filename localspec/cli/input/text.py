"""Bytes, text and JSON from files, arguments and standard input."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

from localspec.errors import InputError

#: Names of JSON types in error messages.
TYPE_NAMES = {
    dict: "an object",
    list: "a list",
    str: "a string",
    bool: "a truth value",
    int: "a number",
    float: "a number",
    type(None): "null",
}


def decode_utf8(data: bytes, source: str, offset: int = 0) -> str:
    """Decode UTF-8 without its byte-order mark. ``offset`` is where ``data`` starts in ``source``, in bytes."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        place = offset + error.start
        raise InputError(
            f"{source} is not valid UTF-8 at byte {place} (0x{data[error.start]:02x}); convert it to UTF-8."
        ) from None
    return text.removeprefix("\ufeff") if offset == 0 else text


def argument(text: str, name: str) -> str:
    """A command-line value. Bytes that the locale cannot decode are read as UTF-8. Raises :class:`InputError`."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return decode_utf8(os.fsencode(text), name)
    return text


def standard_input() -> BinaryIO:
    return sys.stdin.buffer


def read_bytes(path: str) -> bytes:
    """All bytes of a file; ``-`` is standard input."""
    if path == "-":
        return standard_input().read()
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise InputError(f"there is no file {path}; check the name.") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder; give a file.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path} cannot be read ({reason}).") from None


def source_name(path: str) -> str:
    """The name of a file in messages."""
    return "standard input" if path == "-" else path


def read_text(path: str) -> str:
    """The text of a file."""
    return decode_utf8(read_bytes(path), source_name(path))


def read_prompt(path: str) -> str:
    """The text of a file without its last line end, which editors and ``echo`` add."""
    return read_text(path).removesuffix("\n").removesuffix("\r")


def parse_json(text: str, source: str) -> Any:
    """Parse JSON. Raises :class:`InputError` with the place of an error."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if "\n" in text else ""
        place = f"{line}column {error.colno}"
        raise InputError(f"{source} is not JSON: {error.msg} ({place}).") from None
    except (ValueError, RecursionError):
        raise InputError(f"{source} is no readable JSON: it is nested too deeply or holds a huge number.") from None


def read_json_file(path: str) -> Any:
    """The JSON value of a file."""
    return parse_json(read_text(path), source_name(path))


def decoded_lines(stream: Iterator[bytes], source: str) -> Iterator[str]:
    """Yield the lines of a byte stream as they come, without line ends. Raises InputError for invalid UTF-8."""
    offset = 0
    for raw in stream:
        yield decode_utf8(raw, source, offset).rstrip("\r\n")
        offset += len(raw)
