"""The settings file: TOML text ↔ values. Knows where it is and how it is written, not what the settings are.

The file is flat, ``key = value`` with a value of one line. A change is made to the text and not to the whole, so that
comments and order stay, and it is read back before it is written: the file holds what was asked, or is left alone.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from localspec.errors import InputError
from localspec.files import config_dir, replacing

Value = str | int | float | bool

#: What a new file begins with.
FIRST_LINE = "# Settings of localspec; `localspec config` lists them."
#: Far beyond any settings; what is larger is something else.
_MOST_BYTES = 1 << 20
_PLACE = re.compile(r"(.*?) \(at (?:line (\d+), column \d+|end of document)\)", re.DOTALL)


def settings_path() -> Path:
    """``$LOCALSPEC_CONFIG``, or ``config.toml`` where this system keeps a user's settings; it need not exist."""
    chosen = os.environ.get("LOCALSPEC_CONFIG")
    if chosen:
        return Path(chosen)
    return config_dir() / "config.toml"


def read_text(path: Path) -> str:
    """The text of the file, empty where there is none. Raises :class:`InputError` for what cannot be one."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path} has more than {_MOST_BYTES >> 20} MiB and is no settings file; give another one.")
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
    """Key → value, in the file's order; ``-`` and ``_`` in a key are one. Raises :class:`InputError` with the line.

    Tables, lists and dates are no settings.
    """
    try:
        found = _loads(text)
    except RecursionError:
        raise _damaged(path, 1, "it is nested too deeply") from None
    except ValueError as error:
        match = _PLACE.match(str(error))
        line = int(match[2]) if match and match[2] else text.rstrip().count("\n") + 1
        reason = match[1] if match else str(error)
        raise _damaged(path, line, reason[:1].lower() + reason[1:]) from None
    values: dict[str, Value] = {}
    for key, value in found.items():
        name = key.replace("_", "-")
        if not isinstance(value, (str, int, float, bool)):
            raise _damaged(path, line_of(text, name), f"{key} must be text, a number, true or false")
        if name in values:
            raise _damaged(path, line_of(text, name), f"{name} is there twice")
        values[name] = value
    return values


def line_of(text: str, key: str) -> int:
    """The line, from 1, that sets ``key`` or opens the table of that name; 1 where there is none."""
    for number, line in enumerate(text.split("\n"), start=1):
        if _names(line, key) or re.match(rf"\s*\[+\s*{_spelt(key)}\s*[\].]", line):
            return number
    return 1


def changed(text: str, key: str, value: Value | None, path: Path) -> str:
    """The text with ``key`` set to ``value``, or without it (None). Raises :class:`InputError` if it cannot be done."""
    wanted = parse(text, path)
    before = wanted.get(key)
    if value is None:
        wanted.pop(key, None)
    else:
        wanted[key] = value
    lines = text.split("\n")
    at = line_of(text, key) - 1
    if before is not None:
        end = "\r" if lines[at].endswith("\r") else ""
        lines[at : at + 1] = [] if value is None else [_written(key, value) + _comment(lines[at]) + end]
    elif value is not None:
        lines = lines if text else [FIRST_LINE, ""]
        lines[-1:] = [*filter(None, lines[-1:]), _written(key, value), ""]
    new = "\n".join(lines)
    try:
        kept = repr(parse(new, path)) == repr(wanted)
    except InputError:
        kept = False
    if not kept:
        raise InputError(f"{path} is written in a way that {key} cannot be changed in; use `localspec config edit`.")
    return new


def write(path: Path, text: str) -> None:
    """Put ``text`` in the file's place, whole or not at all; a link stays, and so do the file's permissions."""
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = path.stat().st_mode & 0o777 if path.exists() else None
    with replacing(path, private=True) as stream:
        stream.write(text.encode())
        if mode is not None:
            os.chmod(stream.fileno() if os.chmod in os.supports_fd else stream.name, mode)


def as_text(value: Value) -> str:
    """As it would be typed after a flag."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _loads(text: str) -> dict[str, Any]:
    """Raises ValueError. The parser is loaded here: most runs of the program have no settings file."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    found: dict[str, Any] = tomllib.loads(text)
    return found


def _written(key: str, value: Value) -> str:
    """A line of TOML; JSON's strings are TOML's, but for DEL."""
    if isinstance(value, str):
        return f"{key} = {json.dumps(value, ensure_ascii=False)}".replace("\x7f", "\\u007f")
    return f"{key} = {as_text(value)}"


def _comment(line: str) -> str:
    """The comment behind the value of a line, with the blanks before it."""
    text = line.rstrip("\r")
    for match in re.finditer(r"\s*#", text):
        try:
            if _loads(text[: match.start()]) == _loads(text):
                return text[match.start() :]
        except ValueError:
            continue
    return ""


def _names(line: str, key: str) -> bool:
    return re.match(rf"\s*{_spelt(key)}\s*=", line) is not None


def _spelt(key: str) -> str:
    """How a key may be spelt in the file."""
    name = "[-_]".join(re.escape(part) for part in key.split("-"))
    return f"[\"']?{name}[\"']?"


def _damaged(path: Path, line: int, reason: str) -> InputError:
    return InputError(
        f"the settings file {path} is damaged at line {line}: {reason}; "
        "mend it with `localspec config edit`, or remove it."
    )
