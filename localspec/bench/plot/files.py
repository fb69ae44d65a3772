"""Write pictures and other results to files, whole or not at all."""

from __future__ import annotations

from pathlib import Path

from localspec.bench.plot.shapes import Picture
from localspec.bench.plot.svg import svg
from localspec.errors import InputError, UsageError
from localspec.files import replacing


def check_picture(path: Path) -> None:
    """Raise :class:`UsageError` unless the name ends in ``.svg``, :class:`InputError` for a folder that is missing."""
    if path.suffix.lower() != ".svg":
        raise UsageError(f"the picture {path} is not an SVG file; give it a name that ends in .svg.")
    check_folder(path)


def check_folder(path: Path) -> None:
    """Raise :class:`InputError` unless ``path`` can be a file in an existing folder."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; give a file.")
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent} to write {path.name} in; make it first.")


def save_picture(path: Path, picture: Picture) -> None:
    """Write the picture as SVG, over a file that exists. Raises as :func:`check_picture` and :func:`write_file`."""
    check_picture(path)
    write_file(path, svg(picture))


def write_file(path: Path, data: bytes) -> None:
    """Write ``data`` under a temporary name, then rename. Raises :class:`InputError`."""
    try:
        with replacing(path) as stream:
            stream.write(data)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror or error}); choose another place.") from error
