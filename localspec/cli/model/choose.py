"""Choose a model where none is given: the one used last, or one from a menu of those that fit this machine.

Only at a terminal; elsewhere it is ``tiny``, so that a script behaves the same everywhere. A model that is given and
not on disk is offered for download. Nothing connects unless the user agrees to a download.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import click

from localspec.cli.errors import print_error
from localspec.cli.invoke import run_command
from localspec.cli.options.model import ModelOptions
from localspec.cli.terminal.notes import Notes, notice
from localspec.cli.terminal.style import BOLD, Style, columns
from localspec.cli.terminal.wrap import wrap
from localspec.errors import LocalspecError, ModelNotFoundError

if TYPE_CHECKING:
    from localspec.memory.speed import ExpectedSpeed, MachineSpeed
    from localspec.models.recommended import RecommendedPair

_NOT_CHOSEN = (
    "no model was chosen, so this is tiny, the built-in one; choose with -m, or `localspec config set model NAME`."
)
#: Memory assumed where the system does not report it, in bytes.
_SMALL = 8 << 30
#: Most models of other programs that are named.
_NAMED = 3
#: Columns from which a row of the menu is a table row.
_WIDE = 60
#: Columns before the description of a model: in a table row, and below its name.
_LEFT, _INDENT = 22, 5


def chosen(models: ModelOptions, at_terminal: bool) -> ModelOptions:
    """``models`` with a model on disk. ``at_terminal``: a person can answer questions.

    Raises :class:`click.exceptions.Exit` if that person leaves.
    """
    if not at_terminal:
        if not models.chosen:
            notice(_NOT_CHOSEN)
        return models
    try:
        return _choose_at_terminal(models)
    except click.Abort:
        Notes(sys.stderr).plain()  # ends the line of the question
        raise


def used_last() -> str | None:
    """The name of the pulled target that was loaded last, if there is one."""
    from localspec.models import store

    targets = [model for model in store.stored_models() if model.role == "model"]
    return max(targets, key=lambda model: model.last_used).name if targets else None


def _choose_at_terminal(models: ModelOptions) -> ModelOptions:
    if models.chosen:
        _offer_download(models.model)
        return models
    last = used_last()
    if last is not None:
        Notes(sys.stderr).show(f"{last}, the model used last; -m or `localspec config set model` chooses another.")
        return replace(models, model=last)
    return replace(models, model=_ask())


def _offer_download(model: str) -> None:
    """Download a Hub name that is not on disk if the user agrees; anything else is left to the engine."""
    from localspec.models.hub.names import parse_name
    from localspec.models.hub.remote import is_offline
    from localspec.models.resolve import resolve_model

    try:
        resolve_model(model)
    except ModelNotFoundError:
        name = parse_name(model)
        if name is not None and not is_offline():
            notice(f"{name} is not on disk.")
            if not click.confirm("Download it and its drafter?", default=True, err=True):
                raise click.exceptions.Exit(0) from None
            _download(model)


def _download(name: str) -> None:
    run_command("pull", name=name)


def _ask() -> str:
    """Show the menu, download the chosen model, and return its name."""
    from localspec.llama.host import total_memory
    from localspec.models.hub.remote import is_offline

    if is_offline():
        notice("localspec is offline (--offline or HF_HUB_OFFLINE), and no model was pulled before.")
        if not click.confirm("Use tiny, the built-in model?", default=True, err=True):
            raise click.exceptions.Exit(0)
        return "tiny"
    memory = total_memory()
    menu = Menu.for_memory(memory, _machine_speed())
    menu.show(memory)
    _tell_found()
    default = 1
    while True:
        pair = menu.read(default)
        if pair.built_in:
            return pair.target
        keep = click.confirm("Make it your default model?", default=True, err=True)
        try:
            _download(pair.target)
        except (LocalspecError, OSError) as error:
            print_error(error, debug=False)
            default = len(menu.pairs)
            continue
        if keep:
            _keep_as_default(pair.target)
        Notes(sys.stderr).plain()
        return pair.target


def _keep_as_default(model: str) -> None:
    """Write the setting ``model``; an error is printed and does not stop the command."""
    from localspec.cli.settings import keep_setting

    try:
        path = keep_setting("model", model)
    except (LocalspecError, OSError) as error:
        print_error(error, debug=False)
        return
    Notes(sys.stderr).show(f"{model} is now the default model ({path}).")


@dataclass(frozen=True)
class Menu:
    """The pairs to choose from: the best that is fast enough to read along first, the built-in one last.

    ``speeds``: the tokens a second that are expected, by target; empty where the machine's speed is not known.
    """

    pairs: tuple[RecommendedPair, ...]
    speeds: Mapping[str, ExpectedSpeed] = field(default_factory=dict)

    @classmethod
    def for_memory(cls, memory: int | None, speed: MachineSpeed | None = None) -> Menu:
        """The pairs for ``memory`` bytes: usable ones from the largest on, then slow ones, the fastest first."""
        from localspec.memory.speed import expected_speed
        from localspec.models.recommended import RECOMMENDED, recommended

        best = recommended(_SMALL if memory is None else memory)
        fitting = RECOMMENDED[: RECOMMENDED.index(best) + 1]
        speeds = {p.target: expected_speed(p.read, p.drafter_size, speed) for p in fitting if speed and not p.built_in}
        slow = sorted(
            (pair for pair in fitting if pair.target in speeds and not speeds[pair.target].usable),
            key=lambda pair: -speeds[pair.target].drafted,
        )
        usable = [pair for pair in reversed(fitting) if pair not in slow and not pair.built_in]
        return cls((*usable, *slow, *(pair for pair in fitting if pair.built_in)), speeds)

    def show(self, memory: int | None) -> None:
        """Print the menu on standard error, fitted to the terminal."""
        notes, style, width = Notes(sys.stderr), Style.from_stream(sys.stderr), columns(sys.stderr)
        notes.plain("\n".join(wrap(f"No model was chosen yet. For this machine{_memory_text(memory)}:", width)))
        notes.plain()
        for number, pair in enumerate(self.pairs, start=1):
            notes.plain(_row(number, pair, self.speeds.get(pair.target), width, style))
        notes.plain(f"  {style.paint('q', BOLD)}  leave\n")
        if not self.pairs[0].built_in:
            text = (
                "The download needs the network; afterwards nothing does. It includes the drafter, which makes the "
                f"model faster. Licence: {self.pairs[0].licence}."
            )
            notes.plain("\n".join(wrap(text, width)))

    def read(self, default: int) -> RecommendedPair:
        """The chosen pair. Raises :class:`click.exceptions.Exit` for none."""
        while True:
            text = click.prompt("Which one?", default=str(default), err=True).strip().lower()
            if text in ("q", "quit", "exit", "leave"):
                raise click.exceptions.Exit(0)
            for number, pair in enumerate(self.pairs, start=1):
                if text in (str(number), pair.target.lower(), pair.title.lower()):
                    return pair
            Notes(sys.stderr).plain(f"Type 1 to {len(self.pairs)}, or q to leave.")


def _memory_text(memory: int | None) -> str:
    from localspec.memory.estimate import memory_text

    return "" if memory is None else f" ({memory_text(memory)} of memory)"


def _tell_found() -> None:
    """Name a few models that other programs have on disk."""
    from localspec.models.found.model import PROGRAMS
    from localspec.models.found.usable import usable_models

    found = [f"{model.name} ({PROGRAMS[model.source]})" for model in usable_models() if model.role == "model"]
    if found:
        more = ", and more in `localspec list`" if len(found) > _NAMED else ""
        text = f"On this disk already: {', '.join(found[:_NAMED])}{more}. To use one: localspec chat -m NAME."
        Notes(sys.stderr).plain("\n".join(wrap(text, columns(sys.stderr))))


def _machine_speed() -> MachineSpeed | None:
    """Measure the machine, about a second; None where a GPU computes whose speed numpy cannot tell."""
    from localspec.llama import binding
    from localspec.probe.machine_speed import measure_machine

    return measure_machine(binding.devices())


def _speed_text(speed: ExpectedSpeed | None) -> str:
    from localspec.memory.speed import rate_text

    if speed is None:
        return ""
    drafts = f", {rate_text(speed.drafted)} with drafts" if speed.drafted > speed.plain else ""
    expected = f"about {rate_text(speed.plain)} here{drafts}"
    return f"; {expected}" if speed.usable else f"; slow: {expected}"


def _row(number: int, pair: RecommendedPair, speed: ExpectedSpeed | None, width: int, style: Style) -> str:
    """``1  Gemma 4 12B      7.0 GB to download; ...``; on a narrow terminal the rest is on lines of its own."""
    from localspec.files import size_text

    cost = "" if pair.built_in else f"{size_text(pair.download)} to download; "
    name = pair.target if pair.built_in else pair.title
    head = style.paint(f"{number:>3}", BOLD) + f"  {style.paint(name, BOLD)}"
    if width < _WIDE:
        return "\n".join([head, *wrap(f"{cost}{pair.note}{_speed_text(speed)}", width, " " * _INDENT, " " * _INDENT)])
    first, *rest = wrap(f"{cost}{pair.note}{_speed_text(speed)}", width, " " * _LEFT, " " * _LEFT)
    return "\n".join([f"{head}{' ' * (_LEFT - _INDENT - len(name))}{first[_LEFT:]}", *rest])
