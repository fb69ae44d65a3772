"""A model's name on the command line → a file on disk."""

from __future__ import annotations

import re
from pathlib import Path

from localspec.errors import ModelNotFoundError

TINY = "tiny"
_MODELS = Path(__file__).parent.parent / "models"
TINY_TARGET = _MODELS / "tiny.gguf"
TINY_ASSISTANT = _MODELS / "tiny-assistant.gguf"
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")


def resolve_model(name: str | Path) -> Path:
    """The file that ``name`` means: ``tiny``, or a path.

    Raises :class:`ModelNotFoundError` with the next step where there is none.
    """
    if name == TINY:
        return TINY_TARGET
    path = Path(name).expanduser()
    if path.exists():
        return path
    if isinstance(name, str) and _HUB_NAME.fullmatch(name) and not name.endswith(".gguf"):
        raise ModelNotFoundError(
            f"{name} is not on disk, and this version does not download; "
            "fetch its .gguf from the Hub and give the path, or use `tiny`."
        )
    raise ModelNotFoundError(f"there is no file {path}; give the path of a .gguf file, or `tiny`.")
