"""Pictures and other results to files: whole or not at all."""

from __future__ import annotations

from pathlib import Path

from localspec.bench.plot.shapes import Picture
from localspec.errors import InputError, UsageError
from localspec.files import replacing

KINDS = (".png", ".svg")


def check_picture(path: Path) -> None:
    """Raise for a name that no picture can be written to: :class:`UsageError` or :class:`InputError`."""
    if path.suffix.lower() not in KINDS:
        raise UsageError(f"the picture {path} has no name that says its kind; end it in {' or '.join(KINDS)}.")
    check_folder(path)


def check_folder(path: Path) -> None:
    """Raise :class:`InputError` unless ``path`` can be a file in a folder that is there."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; give a file.")
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent} to write {path.name} in; make it first.")


def save_picture(path: Path, picture: Picture) -> None:
    """Write the picture as its name says; a file that was there is replaced."""
    check_picture(path)
    if path.suffix.lower() == ".svg":
        from localspec.bench.plot.svg import svg

        write_file(path, svg(picture))
    else:
        from localspec.bench.plot.png import png

        write_file(path, png(picture))


def write_file(path: Path, data: bytes) -> None:
    """Write all of ``data`` under a temporary name, then give it its own. Raises :class:`InputError`."""
    try:
        with replacing(path) as stream:
            stream.write(data)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror or error}); choose another place.") from error
