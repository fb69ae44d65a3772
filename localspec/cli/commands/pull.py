"""``localspec pull``: a model, its drafter and its projector, from the Hub to the disk."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from localspec.cli.options.values import DraftName, RecommendedName
from localspec.cli.terminal.notes import Notes
from localspec.errors import HubError, UsageError

if TYPE_CHECKING:
    from localspec.cli.terminal.transfer import Transfer
    from localspec.models.hub.names import HubName
    from localspec.models.hub.remote import Hub
    from localspec.models.pull import PulledModels, PullPlan
    from localspec.models.store import StoredModel

#: Type of a converted drafter without --type.
_CONVERTED = "Q8_0"


@click.command()
@click.argument("name", metavar="NAME", type=RecommendedName())
@click.option(
    "-d",
    "--draft",
    type=DraftName(),
    default="auto",
    show_default=True,
    metavar="DRAFTER",
    help="Drafter: auto (the one made for the model), none, or a name on the Hub.",
)
@click.option(
    "--type", "kind", metavar="TYPE", help="Quant, if NAME has none, and the type --convert makes.  [default: Q8_0]"
)
@click.option("--convert", is_flag=True, help="If the drafter is on the Hub only as a checkpoint, convert it.")
@click.option(
    "--media/--no-media",
    default=True,
    show_default=True,
    help="Also pull the projector of the model, for pictures and sound.",
)
@click.option("--offline", is_flag=True, help="Never connect; only check that NAME is on disk.")
@click.option("--json", "as_json", is_flag=True, help="Print the files that are on disk now as one JSON object.")
def pull(name: str, draft: str, kind: str | None, convert: bool, media: bool, offline: bool, as_json: bool) -> None:
    """Download a model, its drafter and its projector from the Hub and verify them; afterwards they are used offline.

    NAME is user/repo, user/repo:QUANT, user/repo/file.gguf, an address of hf.co, or a short name like gemma-4-e4b:Q8_0.
    Files go into the Hugging Face cache, which other programs share. An interrupted pull goes on where it stopped.
    """
    from localspec.cli.terminal.transfer import Transfer
    from localspec.models.hub.remote import is_offline

    wanted = _parse(name)
    if wanted is None:
        Notes(sys.stderr).show("tiny is built in; there is nothing to pull.")
        return
    if offline or is_offline():
        _check_on_disk(wanted)
        return
    screen = Transfer(sys.stderr)
    try:
        done, plan = _pull(name, wanted, draft, kind, convert, media, screen)
    except KeyboardInterrupt:
        screen.close()
        screen.note("Interrupted. The same command goes on where this one stopped")
        raise
    finally:
        screen.close()
    if as_json:
        found = {"model": done.target, "drafter": done.drafter, "projector": done.projector}
        fields = {key: _fields(model) for key, model in found.items()}
        click.echo(json.dumps({**fields, "checkpoint": plan.checkpoint}))
    _print_result(screen, name, done, plan, unwanted=draft in ("none", "ngram"))


def _parse(name: str) -> HubName | None:
    """The name on the Hub; None for the built-in pair."""
    from localspec.models.hub.names import parse_name
    from localspec.models.resolve import TINY

    if name == TINY:
        return None
    found = parse_name(name)
    if found is None:
        raise UsageError(f"{name!r} is no name on the Hub; give user/repo:QUANT, or a short name like gemma-4-e2b.")
    return found


def _check_on_disk(name: HubName) -> None:
    """Raise :class:`HubError` if the model is not on disk."""
    from localspec.models.resolve import locate

    if locate(str(name), name) is None:
        raise HubError(
            f"localspec is offline (--offline or HF_HUB_OFFLINE), and {name} is not on disk; run "
            f"`localspec pull {name}` when online."
        )
    Notes(sys.stderr).show(f"{name} is on disk; localspec is offline, so no update was looked for.")


def _pull(
    text: str, name: HubName, draft: str, kind: str | None, convert: bool, media: bool, screen: Transfer
) -> tuple[PulledModels, PullPlan]:
    from localspec.cli.model.exact_file import prefer_exact, tell_types
    from localspec.cli.terminal.interrupt import silent_keys
    from localspec.models import pull as hub_pull
    from localspec.models.hub.remote import Hub, hub_cache_dir

    hub, cache = Hub(notify=screen.note), hub_cache_dir()
    with silent_keys():  # typed keys, and the ^C that Ctrl-C shows, would break the bar
        plan = hub_pull.plan_pull(hub, name, draft, kind, media=media)
        plan = plan if kind else prefer_exact(hub, text, plan, screen.note)
        done = hub_pull.pull(hub, plan, cache, screen)
    drafter = done.drafter
    if plan.checkpoint and done.target:
        drafter = _from_checkpoint(hub, plan.checkpoint, done.target, kind, convert, cache, screen)
    if done.target:
        tell_types(done.target, drafter, screen.note)
    return replace(done, drafter=drafter), plan


def _from_checkpoint(
    hub: Hub, repo: str, target: StoredModel, kind: str | None, convert: bool, cache: Path, screen: Transfer
) -> StoredModel | None:
    """The drafter that was converted from a checkpoint before, or is converted now if the user agrees."""
    from localspec.cli.terminal.interrupt import silent_keys
    from localspec.gguf.types import FILE_TYPES
    from localspec.models import store
    from localspec.models.pull import pull_converted

    made = (kind or "").upper() if (kind or "").upper() in FILE_TYPES else _CONVERTED
    before = [model for model in store.find(repo, role="drafter") if target.name in model.draft_of]
    if before and not convert:
        return before[0]
    if not convert and sys.stdin.isatty() and sys.stderr.isatty():
        screen.note(f"Its drafter is on the Hub only as a checkpoint ({repo})")
        convert = click.confirm(f"Download it and convert it to {made}?", err=True)
    if not convert:
        return None
    with silent_keys():
        return pull_converted(hub, repo, target, made, _convert, cache, screen)


def _convert(folder: Path, out: Path, kind: str) -> None:
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


def _print_result(screen: Transfer, name: str, done: PulledModels, plan: PullPlan, unwanted: bool) -> None:
    from localspec.files import size_text

    target, drafter = done.target, done.drafter
    if target is None:
        assert drafter is not None
        screen.note(f"{drafter.name} ({size_text(drafter.size)}) is on disk; use it with -d {drafter.name}")
        return
    if drafter is not None:
        screen.note(f"Drafter: {drafter.name} ({size_text(drafter.size)})")
    elif plan.checkpoint:
        screen.note(
            f"Its drafter is on the Hub only as a checkpoint ({plan.checkpoint}); `localspec pull {name} --convert` "
            "downloads and converts it. Without it, n-gram lookup drafts"
        )
    elif not unwanted:
        screen.note("No drafter is known for it, so n-gram lookup drafts; -d takes a smaller model of its vocabulary")
    if done.projector is not None:
        screen.note(f"Projector: {done.projector.name} ({size_text(done.projector.size)})")
    screen.note(f"On disk: {target.name} ({size_text(target.size)}). Next: localspec chat -m {target.name}")
