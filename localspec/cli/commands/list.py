"""``localspec list``: the models on disk, whose they are, their drafters, sizes and last use."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from localspec.cli.terminal.notes import Notes

if TYPE_CHECKING:
    from localspec.models.found.model import FoundModel
    from localspec.models.store import StoredModel

#: The last column is shown if another program's model is listed.
_HEADER = ("NAME", "SIZE", "USED", "DRAFTER", "FROM")
#: ``source`` of a model that was pulled.
_OURS = "localspec"


@click.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
def list(as_json: bool) -> None:
    """List the models on disk, the drafter that -d auto uses for each, their sizes and last use.

    Besides pulled models these are those in the Hub's cache, and those of LM Studio, llama.cpp and Ollama, which are
    used where they are. Never connects.
    """
    from localspec.cli.terminal.style import columns
    from localspec.models import remove as removing

    rows = _all_rows()
    unfinished = sum(path.stat().st_size for path in removing.unfinished())
    if as_json:
        click.echo(json.dumps({"models": rows, "unfinished_bytes": unfinished}))
        return
    if not rows:
        Notes(sys.stderr).show("No model is on disk yet; pull one, for example: localspec pull gemma-4-e2b")
    else:
        click.echo("\n".join(_lines(rows, columns(sys.stdout), time.time())))
    if unfinished:
        from localspec.files import size_text

        Notes(sys.stderr).show(
            f"Interrupted pulls take {size_text(unfinished)}; pull again to finish them, or remove them with "
            "`localspec rm --unfinished`."
        )


def _all_rows() -> Sequence[dict[str, Any]]:
    """Pulled models, then those of other programs."""
    from localspec.models import store
    from localspec.models.found.usable import usable_models

    pulled, found = store.stored_models(), usable_models()
    names = {**{model.path: model.name for model in found}, **{model.path: model.name for model in pulled}}
    return [
        *({**_row(model, names), "last_used": model.last_used, "source": _OURS} for model in pulled),
        *({**_row(model, names), "last_used": None, "source": model.source} for model in found),
    ]


def _row(model: StoredModel | FoundModel, names: Mapping[Path, str]) -> dict[str, Any]:
    return {
        "name": model.name,
        "role": model.role,
        "bytes": model.size,
        "path": str(model.path),
        "drafter": _drafter(model.path, names) if model.role == "model" else None,
        "projector": _projector(model.name) if model.role == "model" else None,
    }


def _drafter(path: Path, names: Mapping[Path, str]) -> str | None:
    """The name of the drafter that -d auto uses, its path if it has no name, or None for n-gram lookup."""
    from localspec.errors import LocalspecError
    from localspec.gguf.header import read_header
    from localspec.models.pairing import find_drafter

    try:
        found = find_drafter(read_header(path))
    except LocalspecError:
        return None
    return names.get(found, str(found)) if found else None


def _projector(name: str) -> str | None:
    """The name of the projector that was pulled with the model, for pictures and sound."""
    from localspec.models import store

    return next((found.name for found in store.pulled_with(name) if found.role == "projector"), None)


def _lines(rows: Sequence[dict[str, Any]], width: int, now: float) -> Sequence[str]:
    """A table; on a narrow terminal three or four lines a model."""
    from localspec.cli.terminal.units import age_text
    from localspec.files import size_text

    cells = [
        (
            row["name"],
            size_text(row["bytes"]),
            age_text(now - row["last_used"]) if row["last_used"] is not None else "-",
            f"({row['role']})" if row["role"] != "model" else _short(row) or "(n-gram lookup)",
            _from(row),
        )
        for row in rows
    ]
    shown = 5 if any(_from(row) for row in rows) else 4
    table = [row[:shown] for row in (_HEADER, *cells)]
    wide = [max(len(row[i]) for row in table) for i in range(shown)]
    if sum(wide) + 2 * (shown - 1) <= width:
        return ["  ".join(_padded(row, wide)).rstrip() for row in table]
    lines = []
    for name, size, used, drafter, source in cells:
        lines += [name, f"  {size}" + ("" if used == "-" else f", used {used}")]
        lines += [f"  a {drafter[1:-1]}" if drafter in ("(drafter)", "(projector)") else f"  drafter: {drafter}"]
        lines += [f"  from {source}"] if source else []
    return lines


def _padded(row: Sequence[str], wide: Sequence[int]) -> Sequence[str]:
    """Cells of the width of their columns; sizes are aligned on the right."""
    return [f"{cell:>{n}}" if i == 1 else f"{cell:<{n}}" for i, (cell, n) in enumerate(zip(row, wide, strict=True))]


def _from(row: dict[str, Any]) -> str:
    """The program whose file it is; empty for a model that was pulled."""
    from localspec.models.found.model import PROGRAMS

    return PROGRAMS.get(row.get("source", _OURS), "")


def _short(row: dict[str, Any]) -> str | None:
    """The drafter's name, without its repository if that is the target's."""
    drafter, repo = row["drafter"], row["name"].partition(":")[0]
    return drafter.removeprefix(f"{repo}/") if drafter else None
