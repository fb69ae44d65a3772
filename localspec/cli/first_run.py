"""Which model a person gets who named none: the one used last, or one to choose from what fits this machine.

Only at a terminal. Elsewhere it is ``tiny``, so that a script does the same everywhere, and that is said. A model that
was named and is not on disk is offered to be fetched. Nothing connects unless the answer was to fetch.
"""

from __future__ import annotations

import sys
import textwrap
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from localspec.cli.errors import describe, tell
from localspec.cli.invoke import run_command
from localspec.cli.options.shared import ModelOptions
from localspec.cli.terminal.notes import Notes
from localspec.cli.terminal.style import BOLD, Style, columns
from localspec.errors import LocalspecError, ModelNotFoundError

if TYPE_CHECKING:
    from localspec.models.recommended import Pair

_NOT_CHOSEN = (
    "no model was chosen, so this is tiny, the built-in one; choose with -m, or `localspec config set model NAME`."
)
#: Machines that do not say how much memory they have are taken for small ones.
_SMALL = 8 << 30
_WIDE = 60


def chosen(models: ModelOptions, at_terminal: bool) -> ModelOptions:
    """``models`` with a model on disk in it; ``at_terminal``: a person reads what is printed and can answer.

    Raises :class:`click.exceptions.Exit` where that person leaves.
    """
    if not at_terminal:
        if not models.chosen:
            tell(_NOT_CHOSEN)
        return models
    try:
        return _chosen_by_a_person(models)
    except click.Abort:
        click.echo(err=True)  # ends the line of the question
        raise


def _chosen_by_a_person(models: ModelOptions) -> ModelOptions:
    if models.chosen:
        return _fetched_if_wanted(models)
    last = used_last()
    if last is not None:
        Notes(sys.stderr).say(f"{last}, the model used last; -m or `localspec config set model` chooses another.")
        return replace(models, model=last)
    return replace(models, model=_ask())


def used_last() -> str | None:
    """The name of the pulled model that was loaded last; None where there is none."""
    from localspec.models import store

    targets = [model for model in store.models() if model.role == "model"]
    return max(targets, key=lambda model: model.last_used).name if targets else None


def _fetched_if_wanted(models: ModelOptions) -> ModelOptions:
    """A name on the Hub that is not on disk is fetched if that is wanted; any other is left to the engine."""
    from localspec.models.hub.names import parse_name
    from localspec.models.hub.remote import offline
    from localspec.models.resolve import resolve_model

    try:
        resolve_model(models.model)
    except ModelNotFoundError:
        name = parse_name(models.model)
        if name is not None and not offline():
            tell(f"{name} is not on disk.")
            if not click.confirm("Fetch it and its drafter?", default=True, err=True):
                raise click.exceptions.Exit(0) from None
            _fetch(models.model)
    return models


def _fetch(name: str) -> None:
    run_command("pull", name=name)


def _ask() -> str:
    """The name of the model that a person chose, fetched if need be."""
    from localspec.llama.host import total_memory
    from localspec.models.hub.remote import offline

    if offline():
        tell("nothing may connect (--offline or HF_HUB_OFFLINE), and no model was pulled before.")
        if not click.confirm("Use tiny, the built-in model?", default=True, err=True):
            raise click.exceptions.Exit(0)
        return "tiny"
    memory = total_memory()
    menu = Menu.of(memory)
    menu.show(memory)
    default = 1
    while True:
        pair = menu.read(default)
        if pair.built_in:
            return pair.target
        keep = click.confirm("Make it your default model?", default=True, err=True)
        try:
            _fetch(pair.target)
        except (LocalspecError, OSError) as error:
            tell(describe(error, debug=False))
            default = len(menu.pairs)
            continue
        if keep:
            _remember(pair.target)
        click.echo(err=True)
        return pair.target


def _remember(model: str) -> None:
    """As the default; what keeps it from being written is told, and no more."""
    from localspec.cli.settings import keep

    try:
        path = keep("model", model)
    except (LocalspecError, OSError) as error:
        tell(describe(error, debug=False))
        return
    Notes(sys.stderr).say(f"{model} is the default model from now on ({path}).")


@dataclass(frozen=True)
class Menu:
    """The pairs to choose from: the recommended one first, smaller ones after it, the built-in one last."""

    pairs: tuple[Pair, ...]

    @classmethod
    def of(cls, memory: int | None) -> Menu:
        from localspec.models.recommended import RECOMMENDED, recommended

        best = recommended(_SMALL if memory is None else memory)
        return cls(tuple(reversed(RECOMMENDED[: RECOMMENDED.index(best) + 1])))

    def show(self, memory: int | None) -> None:
        """On standard error, fitted to the terminal."""
        style = Style.of(sys.stderr)
        width = max(columns(sys.stderr), 24)
        of = "" if memory is None else f" ({memory / (1 << 30):.0f} GB of memory)"
        _say(f"No model was chosen yet. For this machine{of}:", width)
        click.echo(err=True)
        for number, pair in enumerate(self.pairs, start=1):
            click.echo(_row(number, pair, width, style), err=True, color=style.on)
        click.echo(f"  {style.paint('q', BOLD)}  leave\n", err=True, color=style.on)
        if not self.pairs[0].built_in:
            _say(
                "To fetch one needs the network; afterwards nothing does. Its drafter, which makes it quick, comes "
                f"with it. Licence: {self.pairs[0].licence}.",
                width,
            )

    def read(self, default: int) -> Pair:
        """The pair that is chosen. Raises :class:`click.exceptions.Exit` where it is none."""
        while True:
            text = click.prompt("Which one?", default=str(default), err=True).strip().lower()
            if text in ("q", "quit", "exit", "leave"):
                raise click.exceptions.Exit(0)
            for number, pair in enumerate(self.pairs, start=1):
                if text in (str(number), pair.target, pair.title.lower()):
                    return pair
            click.echo(f"Type 1 to {len(self.pairs)}, or q to leave.", err=True)


def _row(number: int, pair: Pair, width: int, style: Style) -> str:
    """``1  Gemma 4 12B      7.0 GB to fetch, ...``; on a narrow terminal the rest is on lines of its own."""
    from localspec.files import size_text

    cost = "" if pair.built_in else f"{size_text(pair.download)} to fetch; "
    name = pair.target if pair.built_in else pair.title
    left = 22 if width >= _WIDE else 5
    head = style.paint(f"{number:>3}", BOLD) + f"  {style.paint(name, BOLD)}"
    lines = textwrap.wrap(f"{cost}{pair.note}", width - left)
    if width >= _WIDE:
        return "\n".join([f"{head}{' ' * (17 - len(name))}{lines[0]}", *(" " * left + line for line in lines[1:])])
    return "\n".join([head, *(" " * left + line for line in lines)])


def _say(text: str, width: int) -> None:
    click.echo(textwrap.fill(text, width), err=True)
