"""Look through every program's models: all of them, and the one of a name."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from localspec.errors import LocalspecError, ModelNotFoundError
from localspec.files import size_text
from localspec.gguf.header import read_header
from localspec.models import store
from localspec.models.found.folders import hub_cache, llama_cpp, lm_studio
from localspec.models.found.model import PROGRAMS, FoundModel
from localspec.models.found.ollama import ollama
from localspec.models.found.places import places
from localspec.models.hub.choose import HubFile, choose_model, choose_named_drafter
from localspec.models.hub.names import HubName

#: Tag that a name of Ollama leaves out.
_LATEST = ":latest"


def found_models() -> list[FoundModel]:
    """Models of other programs, by program. Those that localspec pulled are left out, and second names of one file."""
    try:
        where = places(os.environ, Path.home(), sys.platform)
    except RuntimeError:  # there is no home folder
        return []
    every = [
        *(model for root in where.hub for model in hub_cache(root)),
        *(model for root in where.lm_studio for model in lm_studio(root)),
        *(model for root in where.llama_cpp for model in llama_cpp(root)),
        *(model for root in where.ollama for model in ollama(root)),
    ]
    owner: dict[tuple[int, int], str] = {}
    for pulled in store.stored_models():
        owner[_inode(pulled.path)] = ""
    return [model for model in every if owner.setdefault(_inode(model.path), model.source) == model.source]


def locate(text: str, name: HubName | None, *, drafter: bool = False) -> Path | None:
    """The file of a name as typed (``text``) and as a name on the Hub, None if no program has it.

    The Hub's cache comes first. Raises :class:`ModelNotFoundError` with the paths if other programs have several files
    of that name.
    """
    every = found_models()
    for models in (
        [model for model in every if model.source == "huggingface"],
        [model for model in every if model.source != "huggingface"],
    ):
        found = _different([*_by_text(models, text), *(_by_hub_name(models, name, drafter) if name else [])])
        if len(found) > 1:
            listed = ", ".join(f"{m.path} ({size_text(m.size)}, {PROGRAMS[m.source]})" for m in found)
            raise ModelNotFoundError(f"{text} may be one of several: {listed}. Give the path of one.")
        if found:
            return found[0].path
    return None


def _by_text(models: Sequence[FoundModel], text: str) -> list[FoundModel]:
    """Models whose name, or whose file's name with or without ``.gguf``, is ``text``; case is ignored."""
    wanted = text.lower()
    names = {wanted, wanted + _LATEST}
    files = {wanted, f"{wanted}.gguf"}
    return [m for m in models if m.name.lower() in names or m.files[0].name.rpartition("/")[2].lower() in files]


def _by_hub_name(models: Sequence[FoundModel], name: HubName, drafter: bool) -> list[FoundModel]:
    """The models that each program's copy of the repository gives for ``name``."""
    found: list[FoundModel] = []
    for source in dict.fromkeys(model.source for model in models):
        own = [m for m in models if m.source == source and m.repo.lower() == name.repo.lower()]
        found += _of_repository(own, name, drafter)
    return found


def _of_repository(own: Sequence[FoundModel], name: HubName, drafter: bool) -> list[FoundModel]:
    """The model that is chosen as on the Hub among whole ones; where that is not clear, all with the quant."""
    own = [model for model in own if _is_whole(model)] or own
    listing = [HubFile(file.name, file.size) for model in own for file in model.files]
    by_file = {file.name: model for model in own for file in model.files}
    no_target = name.file is not None or all(model.role == "drafter" for model in own)
    for choose in (choose_named_drafter, choose_model) if drafter or no_target else (choose_model,):
        with contextlib.suppress(ModelNotFoundError):
            return [by_file[choose(listing, name).first.path]]
    return [m for m in own if name.quant and m.quant and m.quant.lower() == name.quant.lower()]


def _is_whole(model: FoundModel) -> bool:
    try:
        return bool(read_header(model.path).tensors)
    except (LocalspecError, OSError):
        return False


def _different(models: Sequence[FoundModel]) -> list[FoundModel]:
    """The first of each file: another path of it, and a copy (a file of its size and name), are left out."""
    kept: list[FoundModel] = []
    for model in models:
        if not any(_inode(model.path) == _inode(one.path) or _content(model) == _content(one) for one in kept):
            kept.append(model)
    return kept


def _content(model: FoundModel) -> tuple[int, str]:
    return model.size, model.files[0].name.rpartition("/")[2]


def _inode(path: Path) -> tuple[int, int]:
    """Number of a file that all of its names share; of a file that cannot be read, one of its path's own."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return -1, hash(path)
    return status.st_dev, status.st_ino
