"""Resolve a model's name on the command line to a file on disk."""

from __future__ import annotations

import contextlib
from pathlib import Path

from localspec.errors import ModelNotFoundError
from localspec.files import BUILT_IN
from localspec.models.hub.names import HubName, exact_alternative, parse_name

TINY = "tiny"
TINY_TARGET = BUILT_IN / "tiny.gguf"
TINY_ASSISTANT = BUILT_IN / "tiny-assistant.gguf"


def resolve_model(name: str | Path, *, drafter: bool = False) -> Path:
    """The file of ``tiny``, of a path, of a model that was pulled, or of one that another program keeps. No network.

    They are looked for in this order; a folder of that name comes last. ``drafter``: the drafter of a repository with
    both. Raises :class:`ModelNotFoundError` with the next step.
    """
    if name == TINY:
        return TINY_TARGET
    path = Path(name).expanduser()
    folder = False
    with contextlib.suppress(OSError):  # a name that is too long for a file
        if path.exists() and not path.is_dir():
            return path
        folder = path.is_dir()
    if isinstance(name, str):
        hub = parse_name(name)
        if found := locate(name, hub, drafter=drafter):
            return found
        if hub is not None and not folder and not _in_a_folder_here(hub, path):
            raise ModelNotFoundError(f"{hub} is not on disk; run `localspec pull {hub}` when online.")
    if folder:
        return path
    raise ModelNotFoundError(
        f"there is no file {path}; give the path of a .gguf file, a name of `localspec list`, a name on the Hub "
        "(user/repo), or `tiny`."
    )


def locate(text: str, name: HubName | None, *, drafter: bool = False) -> Path | None:
    """The file of a model that was pulled, else of one that another program keeps; None if there is none.

    ``name``: the name on the Hub that ``text`` may be. Raises :class:`ModelNotFoundError` for one of several.
    """
    from localspec.models import store
    from localspec.models.found import search

    others = None if drafter else exact_alternative(text)
    for one in filter(None, (name, others)):
        with contextlib.suppress(ModelNotFoundError):
            return store.locate(one, drafter)
    return search.locate(text, name, drafter=drafter) or (search.locate(text, others) if others else None)


def _in_a_folder_here(name: HubName, path: Path) -> bool:
    """True if the first part of ``a/b/c.gguf`` is a folder here: then it is a misspelt path, not a name on the Hub."""
    return name.file is not None and str(path) == str(name) and Path(path.parts[0]).is_dir()
