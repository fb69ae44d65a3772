"""``localspec rm``: free the disk of a pulled model."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from localspec.errors import ModelNotFoundError, UsageError

if TYPE_CHECKING:
    from localspec.models.store import StoredModel


@click.command(short_help="Remove a pulled model from the disk.")
@click.argument("name", metavar="NAME", required=False)
@click.option("--unfinished", is_flag=True, help="Remove what interrupted pulls left behind.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def rm(name: str | None, unfinished: bool, yes: bool) -> None:
    """Remove a model that was pulled, and the drafters that were pulled for it alone, after asking.

    NAME is as in `localspec list`. Files that localspec did not fetch itself, or that something else in the cache
    needs, stay.
    """
    from localspec.files import size_text
    from localspec.models import remove as removing

    if (name is None) != unfinished:
        raise UsageError("give the NAME of a model, or --unfinished; `localspec list` shows what is there.")
    if name is None:
        size = sum(path.stat().st_size for path in removing.unfinished())
        if not size:
            _say("There are no unfinished pulls.")
            return
        _ask(f"This frees {size_text(size)} of unfinished pulls.", yes)
        _say(f"Freed {size_text(removing.remove_unfinished())}.")
        return
    chosen = _chosen(name)
    _ask(f"This frees {size_text(removing.freed_by(chosen))}:", yes, *(f"  {model.name}" for model in chosen))
    freed = sum(removing.remove(model) for model in chosen)
    kept = "" if freed else " The files stay: another program put them there, or something else needs them."
    _say(f"Freed {size_text(freed)}.{kept}")


def _say(*lines: str) -> None:
    from localspec.cli.terminal.notes import Notes

    Notes(sys.stderr).say(*lines)


def _ask(what: str, yes: bool, *lines: str) -> None:
    _say(what, *lines)
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("nobody is there to ask; give --yes to remove it.")
    click.confirm("Go on?", abort=True, err=True)


def _chosen(name: str) -> list[StoredModel]:
    """The model of that name, and the drafters that were pulled for nothing else that is still here."""
    from localspec.models import store
    from localspec.models.hub.names import parse_name

    found = [model for model in store.models() if model.name.lower() == name.lower()]
    parsed = None if found else parse_name(name)
    if parsed is not None:
        path = store.locate(parsed)
        found = [model for model in store.models() if model.path == path]
    if not found:
        raise ModelNotFoundError(f"{name} was not pulled; `localspec list` shows what was.")
    here = {model.name for model in store.models()} - {model.name for model in found}
    drafters = [d for m in found for d in store.drafters_for(m.name) if not here & set(d.draft_of) and d not in found]
    return [*found, *drafters]
