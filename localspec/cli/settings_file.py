"""The settings file: where it is, and TOML text ↔ values.

The file is flat: ``key = value``. A change keeps comments, order and layout; it is parsed again before it is written,
so that the file holds exactly the change or is left alone.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from localspec.errors import InputError
from localspec.files import config_dir, replacing

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

Value = str | int | float | bool

#: The first line of a new file.
FIRST_LINE = "# Settings of localspec; `localspec config` lists them."
#: Most bytes of a settings file: far beyond any settings, and parsed in half a second.
_MOST_BYTES = 1 << 16
#: The end of tomlkit's messages, and two characters in them that are hard to read.
_PLACE = re.compile(r" at line \d+ col \d+$")
_READABLE = {"character: '\\x00'": "end of file", "character: '\\n'": "end of line"}


def settings_path() -> Path:
    """``$LOCALSPEC_CONFIG``, or ``config.toml`` in the system's folder of user settings; it need not exist."""
    chosen = os.environ.get("LOCALSPEC_CONFIG")
    if chosen:
        return Path(chosen)
    return config_dir() / "config.toml"


def read_settings(path: Path) -> str:
    """The text of the file, empty where there is none. Raises :class:`InputError` if it cannot be read."""
    if not os.path.exists(path):  # False also in a folder that may not be entered: the home of another user
        return ""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path} has more than {_MOST_BYTES >> 10} KiB and is no settings file; give another one.")
        content = path.read_bytes()
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"the settings file {path} cannot be read: {reason}; mend or remove it.") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _damaged(path, line, "it is not valid UTF-8") from None


def parse(text: str, path: Path) -> dict[str, Value]:
    """Key → value, in the file's order; ``-`` and ``_`` in a key are equal.

    Raises :class:`InputError` with the line for invalid TOML and for tables, lists and dates, which are no settings.
    """
    values: dict[str, Value] = {}
    for spelling, value in _document(text, path).unwrap().items():
        key = spelling.replace("_", "-")
        if not isinstance(value, (str, int, float, bool)):
            raise _damaged(path, line_of(text, key), f"{spelling} must be text, a number, true or false")
        if key in values:
            raise _damaged(path, line_of(text, key), f"{key} is there twice")
        values[key] = value
    return values


def line_of(text: str, key: str) -> int:
    """The line, from 1, that sets ``key`` or opens the table of that name; 1 where there is none."""
    import tomlkit

    number = 1
    for found, item in tomlkit.parse(text).body:
        if found is not None and found.key.replace("_", "-") == key:
            return number
        outside = f"{item.trivia.indent}{item.trivia.trail}" if found is not None else ""
        number += f"{outside}{item.as_string()}".count("\n")
    return 1


def changed(text: str, key: str, value: Value | None, path: Path) -> str:
    """The text with ``key`` set to ``value``, or without it (None). Raises :class:`InputError` if that fails."""
    wanted = parse(text, path)
    document = _document(text or f"{FIRST_LINE}\n", path)
    spelling = next((name for name in document if name.replace("_", "-") == key), None)
    if value is not None:
        wanted[key] = value
        document[spelling or key] = value
    elif spelling is not None:
        del wanted[key], document[spelling]
    else:
        return text
    new = document.as_string()
    if repr(parse(new, path)) != repr(wanted):  # repr tells 1, 1.0 and True apart
        raise InputError(f"{key} cannot be changed in {path}; use `localspec config edit`.")
    return new


def write(path: Path, text: str) -> None:
    """Replace the file by ``text``, whole or not at all; a link stays, and so do the file's permissions."""
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = path.stat().st_mode & 0o777 if path.exists() else None
    with replacing(path, private=True) as stream:
        stream.write(text.encode())
        if mode is not None:
            os.chmod(stream.fileno() if os.chmod in os.supports_fd else stream.name, mode)


def as_text(value: Value) -> str:
    """Format a value as it is typed after a flag."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _document(text: str, path: Path) -> TOMLDocument:
    """Parse TOML. The parser is imported here: most runs of the program have no settings file."""
    import tomlkit
    from tomlkit.exceptions import ParseError

    try:
        return tomlkit.parse(text)
    except ParseError as error:
        line = min(error.line, text.rstrip().count("\n") + 1)
        reason = _PLACE.sub("", str(error)).rstrip(".")
        for character, name in _READABLE.items():
            reason = reason.replace(character, name)
        raise _damaged(path, line, reason[:1].lower() + reason[1:]) from None
    except RecursionError:
        raise _damaged(path, 1, "it is nested too deeply") from None


def _damaged(path: Path, line: int, reason: str) -> InputError:
    return InputError(
        f"the settings file {path} is damaged at line {line}: {reason}; "
        "mend it with `localspec config edit`, or remove it."
    )
