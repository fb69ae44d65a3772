"""Files that are whole or not there, and models in several files. Knows nothing of what is in them."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_FIRST_PART = re.compile(r"(.*)-00001-of-(\d{5})(\.[^.]+)")


@contextmanager
def replacing(path: Path, *, private: bool = False) -> Iterator[BinaryIO]:
    """A stream whose bytes take the place of ``path`` when the block ends well; else nothing is left of them.

    ``private``: readable by the user alone. Raises OSError, and ValueError for what cannot be a path.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.", suffix=".tmp")
    try:
        with open(handle, "wb") as stream:
            yield stream
        if not private:
            os.chmod(temporary, _usual_mode())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _usual_mode() -> int:
    """What a file that is simply opened gets; the system tells it by setting it only."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def parts(path: Path) -> list[Path]:
    """Every part that is there of a split model named by its first part (``-00001-of-0000N``), else the file alone."""
    match = _FIRST_PART.fullmatch(path.name)
    if match is None:
        return [path]
    stem, count, suffix = match.groups()
    rest = (path.with_name(f"{stem}-{i:05d}-of-{count}{suffix}") for i in range(2, int(count) + 1))
    return [path, *(part for part in rest if part.is_file())]
