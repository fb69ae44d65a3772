"""Folders of the user, files that are replaced as a whole, and models in several files."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

#: The files of the built-in pair.
BUILT_IN = Path(__file__).parent / "models" / "builtin"
#: Bytes that :func:`file_identity` hashes: the beginning, and so many pieces of the rest.
_HEADER, _PIECE, _PIECES = 1 << 20, 1 << 16, 16
_FIRST_PART = re.compile(r"(.*)-00001-of-(\d{5})(\.[^.]+)")


def cache_dir() -> Path:
    """``$LOCALSPEC_CACHE``, or the user's cache folder of this system. It need not exist; nothing in it is missed."""
    return _folder("LOCALSPEC_CACHE", "user_cache_path")


def data_dir() -> Path:
    """``$LOCALSPEC_DATA``, or the user's data folder of this system. It need not exist."""
    return _folder("LOCALSPEC_DATA", "user_data_path")


def config_dir() -> Path:
    """The folder in which this system keeps a user's settings. It need not exist."""
    return _folder("", "user_config_path")


def _folder(variable: str, kind: str) -> Path:
    """Raises RuntimeError where the user has no home folder."""
    chosen = os.environ.get(variable)
    if chosen:
        return Path(chosen)
    import platformdirs  # slow to import

    path: Path = getattr(platformdirs, kind)("localspec")
    return path


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


def file_identity(path: str | Path) -> str:
    """A file's size, time of change, and a hash of its first MiB and of 16 pieces of 64 KiB spread over the rest.

    Of the first part of a split GGUF it covers every part. It reads 2 MiB of any file, so a 20 GB file costs as little
    as a small one. It notices every new, longer, shorter or rewritten file and any change to a header of up to 1 MiB;
    it does not notice bytes changed between the pieces by something that puts size and time back. Raises OSError.
    """
    return " ".join(_part_identity(part) for part in parts(Path(path)))


def _part_identity(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as stream:
        status = os.fstat(stream.fileno())
        found.update(stream.read(_HEADER))
        rest = status.st_size - _HEADER
        for i in range(_PIECES if rest > 0 else 0):
            stream.seek(_HEADER + max(0, rest - _PIECE) * i // (_PIECES - 1))
            found.update(stream.read(_PIECE))
    return f"{status.st_size}:{status.st_mtime_ns}:{found.hexdigest()[:32]}"


def size_text(size: int) -> str:
    """Format bytes in decimal units: ``4.6 GB``, ``98 MB``, ``12 kB``."""
    if size >= 10**9:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.0f} MB" if size >= 10**6 else f"{size / 1e3:.0f} kB"
