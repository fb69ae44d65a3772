"""Output files: where they may be written, whether there is room, and that they appear whole or not at all.

What is not finished lies in a folder of its own beside the output, held by a lock as long as its process lives. So two
processes never share one, and what a killed process left is removed by the next that writes the same file.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from localspec.errors import ConvertError

_SLACK = 1 << 20  # header, alignment and the like


def check_destination(out: Path, force: bool) -> None:
    """ConvertError where ``out`` cannot be made, or exists and is not to be replaced."""
    if out.is_dir():
        raise ConvertError(f"{out} is a folder: give the name of the GGUF file to write.")
    if not out.parent.is_dir():
        raise ConvertError(f"The folder {out.parent} does not exist: create it first.")
    if out.exists() and not force:
        raise ConvertError(f"{out} exists: choose another name, or replace it with --force.")


def check_room(out: Path, needed: int) -> None:
    """ConvertError when the disk of ``out`` has less than ``needed`` bytes free."""
    needed += _SLACK
    free = shutil.disk_usage(out.parent).free
    if needed > free:
        raise ConvertError(
            f"{out} needs {needed / 1e9:.1f} GB but {out.parent} has {free / 1e9:.1f} GB free: "
            "make room or choose a smaller type."
        )


@contextmanager
def replaced_when_done(out: Path) -> Iterator[Path]:
    """A name to write under; renamed to ``out`` when the block ends well, removed otherwise."""
    with work_folder(out) as folder:
        partial = folder / out.name
        yield partial
        os.replace(partial, out)


@contextmanager
def work_folder(out: Path) -> Iterator[Path]:
    """A new folder beside ``out`` for what is not finished; gone when the block is left. OSError is a ConvertError."""
    _remove_left_over(out)
    try:
        folder = Path(tempfile.mkdtemp(prefix=_prefix(out), suffix=_SUFFIX, dir=out.parent))
        try:
            with _locked(folder):
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    except OSError as error:
        raise ConvertError(f"Cannot write {out}: {error.strerror or error}.") from error


_SUFFIX, _LOCK = ".partial", "lock"


def _prefix(out: Path) -> str:
    return f".{out.name[:100]}."


def _remove_left_over(out: Path) -> None:
    """Work folders of ``out`` that no living process holds."""
    with suppress(OSError):
        for folder in out.parent.iterdir():
            if folder.name.startswith(_prefix(out)) and folder.name.endswith(_SUFFIX) and _is_left(folder):
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock, which appears only once it is held."""
    new = folder / (_LOCK + ".new")
    with new.open("wb") as lock:
        if _take(lock):
            os.replace(new, folder / _LOCK)
        yield


def _is_left(folder: Path) -> bool:
    try:
        with (folder / _LOCK).open("rb") as lock:
            return _take(lock)
    except OSError:
        return False


def _take(lock: IO[bytes]) -> bool:
    """Lock an open file for this process, if nobody has; never where the system has no such locks."""
    try:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True
