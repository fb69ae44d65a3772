"""Safe writing of output files: checks of the destination, and replacement only by a complete file.

An unfinished file lies in a work folder beside the output. The process holds a lock of that folder, so that two
processes never share one, and the next process that writes the same output removes the folder of a killed process.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from localspec.errors import ConvertError
from localspec.files import size_text

#: Bytes that are needed besides the tensors: metadata and alignment.
_SLACK = 1 << 20
_SUFFIX = ".partial"
#: Folders that are made until one can be locked.
_ATTEMPTS = 4


def check_destination(out: Path, force: bool) -> None:
    """Raise ConvertError if ``out`` cannot be created, or exists and ``force`` is not set."""
    if out.is_dir():
        raise ConvertError(f"{out} is a folder: give the name of the GGUF file to write.")
    if not out.parent.is_dir():
        raise ConvertError(f"The folder {out.parent} does not exist: create it first.")
    if out.exists() and not force:
        raise ConvertError(f"{out} exists: choose another name, or replace it with --force.")


def check_space(out: Path, needed: int) -> None:
    """Raise ConvertError if the disk of ``out`` has less than ``needed`` bytes free."""
    needed += _SLACK
    free = shutil.disk_usage(out.parent).free
    if needed > free:
        raise ConvertError(
            f"{out} needs {size_text(needed)} but {out.parent} has {size_text(free)} free: "
            "make room or choose a smaller type."
        )


@contextmanager
def replaced_when_done(out: Path) -> Iterator[Path]:
    """Yield a temporary path; it is renamed to ``out`` if the block succeeds, and removed otherwise."""
    with work_folder(out) as folder:
        partial = folder / out.name
        yield partial
        os.replace(partial, out)


@contextmanager
def work_folder(out: Path) -> Iterator[Path]:
    """Yield a new folder beside ``out``, removed when the block ends. OSError becomes ConvertError."""
    _remove_abandoned(out)
    try:
        folder, lock = _locked_folder(out)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            if lock is not None:
                os.close(lock)
    except OSError as error:
        raise ConvertError(f"Cannot write {out}: {error.strerror or error}.") from error


def _prefix(out: Path) -> str:
    return f".{out.name[:100]}."


def _remove_abandoned(out: Path) -> None:
    """Remove the work folders of ``out`` whose lock no process holds."""
    with suppress(OSError):
        for folder in out.parent.iterdir():
            if folder.name.startswith(_prefix(out)) and folder.name.endswith(_SUFFIX):
                lock = _take(folder)
                if lock is not None:
                    shutil.rmtree(folder, ignore_errors=True)
                    os.close(lock)


def _locked_folder(out: Path) -> tuple[Path, int | None]:
    """Make a work folder and lock it. Without a lock where the system has none.

    Another process may find the folder before it is locked, and remove it: then a new one is made.
    """
    for _ in range(_ATTEMPTS):
        folder = Path(tempfile.mkdtemp(prefix=_prefix(out), suffix=_SUFFIX, dir=out.parent))
        lock = _take(folder)
        if lock is not None and folder.is_dir():
            return folder, lock
        if lock is not None:
            os.close(lock)
        shutil.rmtree(folder, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=_prefix(out), suffix=_SUFFIX, dir=out.parent)), None


def _take(folder: Path) -> int | None:
    """Lock a folder; None if another process holds the lock, or the system has no such locks."""
    try:
        import fcntl

        opened = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):
        return None
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(opened)
        return None
    return opened
