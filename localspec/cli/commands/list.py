"""``localspec list``: the models on disk, the drafter that each would use, sizes and last use."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from localspec.models.store import StoredModel


@click.command(name="list", short_help="Show the models on disk, with their drafters.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object in place of text.")
def list(as_json: bool) -> None:
    """Show the models that were pulled, the drafter that -d auto would use for each, sizes, and their last use.

    Nothing is looked up on the network.
    """
    from localspec.cli.terminal.style import columns
    from localspec.models import remove as removing
    from localspec.models import store

    models = store.models()
    unfinished = sum(path.stat().st_size for path in removing.unfinished())
    rows = [_row(model) for model in models]
    if as_json:
        click.echo(json.dumps({"models": rows, "unfinished_bytes": unfinished}))
        return
    if not rows:
        click.echo("No model was pulled yet; get one with `localspec pull gemma-4-e2b`, for example.", err=True)
    else:
        click.echo("\n".join(_lines(rows, columns(sys.stdout), time.time())))
    if unfinished:
        from localspec.files import size_text

        click.echo(
            f"Interrupted pulls take {size_text(unfinished)}: pull again to go on, or free it with "
            "`localspec rm --unfinished`.",
            err=True,
        )


def _row(model: StoredModel) -> dict[str, Any]:
    return {
        "name": model.name,
        "role": model.role,
        "bytes": model.size,
        "path": str(model.path),
        "drafter": _drafter(model) if model.role == "model" else None,
        "last_used": model.last_used,
    }


def _drafter(model: StoredModel) -> str | None:
    """The name of the drafter that -d auto would use, its path if it was not pulled, or None for n-gram lookup."""
    from localspec.errors import LocalspecError
    from localspec.gguf.header import read_header
    from localspec.models import store
    from localspec.models.pairing import find_drafter

    try:
        found = find_drafter(read_header(model.path))
    except LocalspecError:
        return None
    names = {other.path: other.name for other in store.models()}
    return names.get(found, str(found)) if found else None


def _lines(rows: Any, width: int, now: float) -> Any:
    """A table; on a narrow terminal the drafter, and then size and date as well, go on lines of their own."""
    from localspec.files import size_text

    cells = [
        (
            row["name"],
            size_text(row["bytes"]),
            ago(now - row["last_used"]),
            "(drafter)" if row["role"] == "drafter" else _short(row) or "(n-gram lookup)",
        )
        for row in rows
    ]
    table = [("NAME", "SIZE", "USED", "DRAFTER"), *cells]
    wide = [max(len(row[i]) for row in table) for i in range(4)]
    if sum(wide) + 6 <= width:
        return [f"{a:<{wide[0]}}  {b:>{wide[1]}}  {c:<{wide[2]}}  {d}".rstrip() for a, b, c, d in table]
    lines = []
    for name, size, used, drafter in cells:
        lines += [name, f"  {size}, used {used}", f"  drafter: {drafter}" if drafter != "(drafter)" else "  a drafter"]
    return lines


def _short(row: Any) -> str | None:
    """The drafter's name, without the repository if that is the target's own."""
    drafter, repo = row["drafter"], row["name"].partition(":")[0]
    return drafter.removeprefix(f"{repo}/") if drafter else None


def ago(seconds: float) -> str:
    """How long ago, in the largest unit that fits."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        count = int(seconds // length)
        if count >= 1:
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"
