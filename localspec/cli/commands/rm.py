"""``localspec rm``: remove a pulled model from the disk."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import click

from localspec.cli.options.values import PulledName
from localspec.errors import ModelNotFoundError, UsageError

if TYPE_CHECKING:
    from localspec.models.store import StoredModel


@click.command()
@click.argument("name", metavar="NAME", type=PulledName(), required=False)
@click.option("--unfinished", is_flag=True, help="Remove the files of interrupted pulls.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def rm(name: str | None, unfinished: bool, yes: bool) -> None:
    """Remove a pulled model, and the drafter and projector that were pulled for it alone, after a question.

    NAME is as in `localspec list`. Files that localspec did not download, or that other models in the cache need,
    stay.
    """
    from localspec.files import size_text
    from localspec.models import remove as removing

    if (name is None) != unfinished:
        raise UsageError("give the NAME of a model, or --unfinished; `localspec list` lists the models.")
    if name is None:
        size = sum(path.stat().st_size for path in removing.unfinished())
        if not size:
            _show("There are no unfinished pulls.")
            return
        _confirm(f"This frees {size_text(size)} of unfinished pulls.", yes)
        _show(f"Freed {size_text(removing.remove_unfinished())}.")
        return
    chosen = _chosen(name)
    _confirm(f"This frees {size_text(removing.bytes_freed_by(chosen))}:", yes, *(f"  {model.name}" for model in chosen))
    freed = sum(removing.remove(model) for model in chosen)
    kept = "" if freed else " The files stay: another program downloaded them, or another model needs them."
    _show(f"Freed {size_text(freed)}.{kept}")


def _show(*lines: str) -> None:
    from localspec.cli.terminal.notes import Notes

    Notes(sys.stderr).show(*lines)


def _confirm(effect: str, yes: bool, *lines: str) -> None:
    """Print the effect, and ask unless ``yes``. Raises :class:`click.Abort` for no."""
    _show(effect, *lines)
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("there is no terminal to confirm at; add --yes to remove it.")
    click.confirm("Go on?", abort=True, err=True)


def _chosen(name: str) -> list[StoredModel]:
    """The model of that name, and the drafters and projectors that were pulled for no other model on disk."""
    from localspec.models import resolve, store
    from localspec.models.hub.names import parse_name

    found = [model for model in store.stored_models() if model.name.lower() == name.lower()]
    parsed = None if found else parse_name(name)
    if parsed is not None:
        with contextlib.suppress(ModelNotFoundError):
            path = resolve.locate(name, parsed)
            found = [model for model in store.stored_models() if model.path == path]
    if not found:
        raise ModelNotFoundError(_why_not(name))
    others = {model.name for model in store.stored_models()} - {model.name for model in found}
    with_it = [d for m in found for d in store.pulled_with(m.name) if not others & set(d.draft_of) and d not in found]
    return [*found, *with_it]


def _why_not(name: str) -> str:
    """The reason why nothing is removed: the file is another program's, or there is none."""
    from localspec.models.found.model import PROGRAMS
    from localspec.models.found.search import found_models

    for model in found_models():
        if model.name.lower() == name.lower():
            return (
                f"{name} is a file of {PROGRAMS[model.source]} ({model.path}), and localspec removes only what it "
                "downloaded; remove it with the program that did."
            )
    return f"{name} was not pulled; `localspec list` lists the models on disk."
