"""Resolve a model's name on the command line to a file on disk."""

from __future__ import annotations

import contextlib
from pathlib import Path

from localspec.errors import ModelNotFoundError
from localspec.files import BUILT_IN
from localspec.models.hub.names import HubName, parse_name

TINY = "tiny"
TINY_TARGET = BUILT_IN / "tiny.gguf"
TINY_ASSISTANT = BUILT_IN / "tiny-assistant.gguf"


def resolve_model(name: str | Path, *, drafter: bool = False) -> Path:
    """The file of ``tiny``, of a path, or of a name on the Hub that was pulled. No network.

    A file comes before a name on the Hub, and that before a folder. ``drafter``: the drafter of a repository with both.
    Raises :class:`ModelNotFoundError` with the next step.
    """
    if name == TINY:
        return TINY_TARGET
    path = Path(name).expanduser()
    folder = False
    with contextlib.suppress(OSError):  # a name that is too long for a file
        if path.exists() and not path.is_dir():
            return path
        folder = path.is_dir()
    hub = parse_name(name) if isinstance(name, str) else None
    if hub is not None:
        try:
            return _pulled(hub, drafter)
        except ModelNotFoundError:
            if not folder and not _in_a_folder_here(hub, path):
                raise
    if folder:
        return path
    raise ModelNotFoundError(
        f"there is no file {path}; give the path of a .gguf file, a name on the Hub (user/repo), or `tiny`."
    )


def _pulled(name: HubName, drafter: bool) -> Path:
    """The pulled file. Raises :class:`ModelNotFoundError`."""
    from localspec.models.store import locate

    return locate(name, drafter)


def _in_a_folder_here(name: HubName, path: Path) -> bool:
    """True if the first part of ``a/b/c.gguf`` is a folder here: then it is a misspelt path, not a name on the Hub."""
    return name.file is not None and str(path) == str(name) and Path(path.parts[0]).is_dir()
