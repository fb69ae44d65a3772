"""``localspec list``: the models on disk, their drafters, sizes and last use."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from localspec.cli.terminal.notes import Notes

if TYPE_CHECKING:
    from localspec.models.store import StoredModel


_HEADER = ("NAME", "SIZE", "USED", "DRAFTER")


@click.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def list(as_json: bool) -> None:
    """List the models that were pulled, the drafter that -d auto uses for each, their sizes and last use.

    Never connects.
    """
    from localspec.cli.terminal.style import columns
    from localspec.models import remove as removing
    from localspec.models import store

    models = store.stored_models()
    unfinished = sum(path.stat().st_size for path in removing.unfinished())
    rows = [_row(model) for model in models]
    if as_json:
        click.echo(json.dumps({"models": rows, "unfinished_bytes": unfinished}))
        return
    if not rows:
        Notes(sys.stderr).show("No model was pulled yet; pull one, for example: localspec pull gemma-4-e2b")
    else:
        click.echo("\n".join(_lines(rows, columns(sys.stdout), time.time())))
    if unfinished:
        from localspec.files import size_text

        Notes(sys.stderr).show(
            f"Interrupted pulls take {size_text(unfinished)}; pull again to finish them, or remove them with "
            "`localspec rm --unfinished`."
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
    """The name of the drafter that -d auto uses, its path if it was not pulled, or None for n-gram lookup."""
    from localspec.errors import LocalspecError
    from localspec.gguf.header import read_header
    from localspec.models import store
    from localspec.models.pairing import find_drafter

    try:
        found = find_drafter(read_header(model.path))
    except LocalspecError:
        return None
    names = {other.path: other.name for other in store.stored_models()}
    return names.get(found, str(found)) if found else None


def _lines(rows: Sequence[dict[str, Any]], width: int, now: float) -> Sequence[str]:
    """A table; on a narrow terminal three lines a model."""
    from localspec.cli.terminal.units import age_text
    from localspec.files import size_text

    cells = [
        (
            row["name"],
            size_text(row["bytes"]),
            age_text(now - row["last_used"]),
            "(drafter)" if row["role"] == "drafter" else _short(row) or "(n-gram lookup)",
        )
        for row in rows
    ]
    table = [_HEADER, *cells]
    wide = [max(len(row[i]) for row in table) for i in range(4)]
    if sum(wide) + 6 <= width:
        return [f"{a:<{wide[0]}}  {b:>{wide[1]}}  {c:<{wide[2]}}  {d}".rstrip() for a, b, c, d in table]
    lines = []
    for name, size, used, drafter in cells:
        lines += [name, f"  {size}, used {used}", f"  drafter: {drafter}" if drafter != "(drafter)" else "  a drafter"]
    return lines


def _short(row: dict[str, Any]) -> str | None:
    """The drafter's name, without its repository if that is the target's."""
    drafter, repo = row["drafter"], row["name"].partition(":")[0]
    return drafter.removeprefix(f"{repo}/") if drafter else None
