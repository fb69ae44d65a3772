"""Models that a request may name: those on disk, with the memory that each needs. Never any other file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localspec.errors import LocalspecError
from localspec.serve.problem import RequestError

if TYPE_CHECKING:
    from localspec.models.found.model import FoundModel
    from localspec.models.store import StoredModel

#: Names that mean the server's own model, as clients without a choice send them.
_DEFAULT_NAMES = ("", "default", "localspec")


@dataclass(frozen=True)
class Model:
    """A model on disk. ``target`` is its name for :func:`localspec.load`. ``created``: seconds since the epoch."""

    id: str
    target: str
    bytes: int = 0
    created: int = 0
    aliases: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Need:
    """Memory of a model with its drafter, in bytes; ``fits`` beside what is loaded now."""

    bytes: int
    fits: bool


@dataclass
class Catalog:
    """The models to choose from. ``default``: the one for requests that name none. ``only``: names to limit it to.

    ``found`` lists what is on disk now. ``any_name``: the default answers to unknown names, too.
    """

    default: Model
    found: Callable[[], Sequence[Model]] = tuple
    only: frozenset[str] = field(default_factory=frozenset)
    any_name: bool = False

    def models(self) -> list[Model]:
        """The default first."""
        others = [model for model in self.found() if model.target != self.default.target and self._allowed(model)]
        return [self.default, *others]

    def _allowed(self, model: Model) -> bool:
        return not self.only or bool(self.only & _names(model))

    def find(self, name: str | None) -> Model:
        """The model of a name. Raises :class:`RequestError` with the names that there are."""
        wanted = (name or "").strip().lower()
        if wanted in _DEFAULT_NAMES or wanted in _names(self.default):  # without a look at the disk
            return self.default
        models = self.models()
        for model in models:
            if wanted in _names(model):
                return model
        if self.any_name:
            return self.default
        names = ", ".join(model.id for model in models[:8])
        raise RequestError(
            404, f"there is no model {name!r:.80} here; there are {names}.", field="model", code="model_not_found"
        )


def _names(model: Model) -> frozenset[str]:
    return frozenset({model.id.lower(), *model.aliases})


def on_disk() -> list[Model]:
    """The built-in model, those that were pulled, and those of other programs."""
    from localspec.models import store
    from localspec.models.found.usable import usable_models
    from localspec.models.resolve import TINY, TINY_TARGET

    found = [Model(TINY, TINY, TINY_TARGET.stat().st_size)]
    paths = set()
    both: list[StoredModel | FoundModel] = [*store.stored_models(), *usable_models()]
    for model in both:
        if model.role == "model" and model.path not in paths:
            paths.add(model.path)
            aliases = frozenset({model.repo.lower(), model.path.stem.lower()}) - {""}
            created = int(getattr(model, "pulled", 0))
            found.append(Model(model.name, model.name, model.size, created, aliases))
    return found


def named(target: str) -> Model:
    """The model that the server was started with; a path is shown by its file's name alone."""
    from localspec.models.resolve import TINY, resolve_model

    for model in on_disk():
        if target.lower() in _names(model):
            return model
    path = resolve_model(target)
    size = path.stat().st_size if path.is_file() else 0
    shown = Path(target).stem if Path(target).suffix == ".gguf" else target
    return Model(TINY if target == TINY else shown, target, size, 0, frozenset({path.stem.lower()}))


def need(target: str, draft: str, sizes: dict[str, Any]) -> Need | None:
    """Memory that a load would take. ``sizes``: those of the context, for :class:`ContextParams`. None if unknown."""
    from localspec.loading.files import find_files
    from localspec.memory.fit import LoadRequest, choose_settings
    from localspec.memory.machine import read_machine
    from localspec.params import ContextParams

    try:
        files, machine = find_files(target, draft), read_machine()
        found = choose_settings(LoadRequest.from_headers(*files.headers, files.kind), ContextParams(**sizes), machine)
    except (LocalspecError, OSError):
        return None
    room = machine.available is None or found.peak <= machine.available
    return Need(max(found.peak, found.device), room and not found.notices)
