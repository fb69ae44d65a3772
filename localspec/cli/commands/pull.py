"""``localspec pull``: a model and the drafter that goes with it, from the Hub to the disk."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from localspec.errors import HubError, ModelNotFoundError, UsageError

if TYPE_CHECKING:
    from localspec.cli.terminal.transfer import Transfer
    from localspec.models.hub.names import HubName
    from localspec.models.hub.remote import Hub
    from localspec.models.pull import Plan
    from localspec.models.store import StoredModel

#: What a converted drafter becomes unless --type says otherwise.
_CONVERTED = "Q8_0"


@click.command(short_help="Fetch a model and its drafter from the Hub.")
@click.argument("name", metavar="NAME")
@click.option(
    "-d",
    "--draft",
    default="auto",
    show_default=True,
    metavar="DRAFTER",
    help="auto: the drafter that goes with it; none; or a name on the Hub.",
)
@click.option("--type", "kind", metavar="TYPE", help="Which quant, where NAME has none; what --convert makes. [Q8_0]")
@click.option("--convert", is_flag=True, help="Where there is only a checkpoint of the drafter, fetch and convert it.")
@click.option("--offline", is_flag=True, help="Connect to nothing, and only say whether NAME is on disk.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output: what is on disk now, where.")
def pull(name: str, draft: str, kind: str | None, convert: bool, offline: bool, as_json: bool) -> None:
    """Fetch a model and the drafter that goes with it from the Hub, check them, and keep them for use offline.

    NAME is user/repo, user/repo:QUANT, user/repo/file.gguf, an address of hf.co, or a short name like gemma-4-e4b:Q8_0.
    Files go into the cache that other programs share. What was interrupted goes on where it stopped.
    """
    from localspec.cli.terminal.transfer import Transfer
    from localspec.models.hub.remote import offline as told_offline

    wanted = _parsed(name)
    if wanted is None:
        click.echo("tiny is built in: there is nothing to pull.", err=True)
        return
    if offline or told_offline():
        _offline(wanted)
        return
    screen = Transfer(sys.stderr)
    try:
        target, drafter, plan = _pull(wanted, draft, kind, convert, screen)
    except KeyboardInterrupt:
        screen.close()
        screen.note("Interrupted. The same command goes on where this one stopped")
        raise
    finally:
        screen.close()
    if as_json:
        click.echo(json.dumps({"model": _fields(target), "drafter": _fields(drafter), "checkpoint": plan.checkpoint}))
    _say_what_next(screen, name, target, drafter, plan, unwanted=draft in ("none", "ngram"))


def _parsed(name: str) -> HubName | None:
    """None for the built-in pair."""
    from localspec.models.hub.names import parse_name
    from localspec.models.resolve import TINY

    if name == TINY:
        return None
    found = parse_name(name)
    if found is None:
        raise UsageError(f"{name!r} is no name on the Hub; give user/repo:QUANT, or a short name like gemma-4-e2b.")
    return found


def _offline(name: HubName) -> None:
    from localspec.models.store import locate

    try:
        locate(name)
    except ModelNotFoundError as error:
        raise HubError(f"localspec is offline (--offline or HF_HUB_OFFLINE), and {error}") from error
    click.echo(f"{name} is on disk; localspec is offline, so nothing newer was looked for.", err=True)


def _pull(
    name: HubName, draft: str, kind: str | None, convert: bool, screen: Transfer
) -> tuple[StoredModel | None, StoredModel | None, Plan]:
    from localspec.cli.terminal.interrupt import silent_keys
    from localspec.models import pull as hub_pull
    from localspec.models.hub.remote import Hub, cache_dir

    hub, cache = Hub(notify=screen.note), cache_dir()
    with silent_keys():  # what is typed, and Ctrl-C's own mark, would break the bar
        plan = hub_pull.make_plan(hub, name, draft, kind)
        done = hub_pull.pull(hub, plan, cache, screen)
    drafter = done.drafter
    if plan.checkpoint and done.target:
        drafter = _from_checkpoint(hub, plan.checkpoint, done.target, kind, convert, cache, screen)
    return done.target, drafter, plan


def _from_checkpoint(
    hub: Hub, repo: str, target: StoredModel, kind: str | None, convert: bool, cache: Path, screen: Transfer
) -> StoredModel | None:
    """The drafter that was made of a checkpoint before, or is made now if that is wanted."""
    from localspec.cli.terminal.interrupt import silent_keys
    from localspec.gguf.types import FILE_TYPES
    from localspec.models import store
    from localspec.models.pull import pull_converted

    made = (kind or "").upper() if (kind or "").upper() in FILE_TYPES else _CONVERTED
    before = [model for model in store.find(repo, role="drafter") if target.name in model.draft_of]
    if before and not convert:
        return before[0]
    question = f"Its drafter is on the Hub only as a checkpoint ({repo})."
    if not convert and sys.stdin.isatty() and sys.stderr.isatty():
        screen.note(question[:-1])
        convert = click.confirm(f"Fetch it and convert it to {made}?", err=True)
    if not convert:
        return None
    with silent_keys():
        return pull_converted(hub, repo, target, made, _converted, cache, screen)


def _converted(folder: Path, out: Path, kind: str) -> None:
    from localspec.cli.invoke import run_command

    run_command("convert", folder=folder, out=out, kind=kind, force=True)


def _fields(model: StoredModel | None) -> dict[str, Any] | None:
    if model is None:
        return None
    return {
        "name": model.name,
        "path": str(model.path),
        "bytes": model.size,
        "files": [str(f.path) for f in model.files],
    }


def _say_what_next(
    screen: Transfer, name: str, target: StoredModel | None, drafter: StoredModel | None, plan: Plan, unwanted: bool
) -> None:
    from localspec.files import size_text

    if target is None:
        assert drafter is not None
        screen.note(f"{drafter.name} ({size_text(drafter.size)}) is on disk; it drafts with -d {drafter.name}")
        return
    if drafter is not None:
        screen.note(f"Drafter: {drafter.name} ({size_text(drafter.size)})")
    elif plan.checkpoint:
        screen.note(
            f"Its drafter is on the Hub only as a checkpoint ({plan.checkpoint}): to fetch and convert it, run "
            f"`localspec pull {name} --convert`. Without one, n-gram lookup drafts"
        )
    elif not unwanted:
        screen.note("No drafter is known for it, so that n-gram lookup drafts (or -d, with a smaller model like it)")
    screen.note(f"On disk: {target.name} ({size_text(target.size)}). Now: localspec chat -m {target.name}")
