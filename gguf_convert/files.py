"""Output files: where they may be written, whether there is room, and that they appear whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

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
    """A name beside ``out`` to write under; renamed to ``out`` when the block ends well, removed otherwise."""
    partial = out.with_name(out.name + ".partial")
    try:
        yield partial
        os.replace(partial, out)
    except OSError as error:
        raise ConvertError(f"Cannot write {out}: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
