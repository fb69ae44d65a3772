"""Types of option values that a shell completes: models, drafters, settings and paths.

Values pass unchanged; they are checked where they are used. Completing reads the names of models on disk and nothing
heavier.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class FileName(click.types.StringParamType):
    """A path, or ``-``; unlike :class:`click.Path` it is not looked up on the disk."""

    name = "file"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type="file")]


class LayerCount(click.types.IntParamType):
    """A number of layers, ``all`` or ``auto``, as in llama.cpp."""

    name = "layers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        text = str(value).strip().lower()
        return text if text in ("all", "auto") else super().convert(value, param, ctx)


class TokenRange(click.types.StringParamType):
    """Two numbers, ``MIN-MAX``, or one for both."""

    name = "range"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        least, _, most = str(value).partition("-")
        if not least.strip().isdecimal() or not (most or least).strip().isdecimal():
            self.fail(f"{value!r} is no range; give the least and the most, such as 70-280.", param, ctx)
        return int(least), int(most or least)


class KnownNames(click.types.StringParamType):
    """Text of which some values are known."""

    name = "name"
    #: True if the value may be a path as well.
    or_file = False

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        found = [name for name in self.known() if name.lower().startswith(incomplete.lower())]
        items = [CompletionItem(name) for name in dict.fromkeys(found)]
        return [CompletionItem(incomplete, type="file"), *items] if self.or_file else items

    def known(self) -> Iterable[str]:
        raise NotImplementedError


class ModelName(KnownNames):
    """A target: ``tiny``, a model on disk, or a GGUF file."""

    or_file = True

    def known(self) -> Iterator[str]:
        yield "tiny"
        yield from _pulled(targets=True, drafters=False)
        yield from _found(drafters=False)


class DraftName(KnownNames):
    """A drafter: ``auto``, ``none``, ``ngram``, ``mtp``, a pulled model, or a GGUF file."""

    or_file = True

    def known(self) -> Iterator[str]:
        yield from ("auto", "none", "ngram", "mtp")
        yield from _pulled(targets=False, drafters=True)
        yield from _found(drafters=True)


class PulledName(KnownNames):
    """A model that was pulled."""

    def known(self) -> Iterator[str]:
        yield from _pulled(targets=True, drafters=True)


class RecommendedName(KnownNames):
    """A model on the Hub; those recommended are known."""

    def known(self) -> Iterator[str]:
        from localspec.models.recommended import RECOMMENDED

        yield from (pair.target for pair in RECOMMENDED if not pair.built_in)


def _pulled(*, targets: bool, drafters: bool) -> Iterator[str]:
    """Names of models on disk, short names first. Any model may draft."""
    from localspec.models import store
    from localspec.models.hub.names import exact_alternative, parse_name
    from localspec.models.recommended import RECOMMENDED

    roles = ("model", "drafter") if drafters else ("model",)
    names = [model.name for model in store.stored_models() if model.role in roles]
    on_disk = {name.lower() for name in names}
    for pair in RECOMMENDED:
        own = {str(name).lower() for name in (parse_name(pair.target), exact_alternative(pair.target))}
        if targets and any(name in on_disk or any(one.startswith(f"{name}:") for one in on_disk) for name in own):
            yield pair.target
    yield from names


def _found(*, drafters: bool) -> Iterator[str]:
    """Names of other programs' models."""
    from localspec.models.found.search import found_models

    yield from (model.name for model in found_models() if drafters or model.role == "model")
