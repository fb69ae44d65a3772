"""``localspec devices``: the devices llama.cpp can use."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from localspec.llama.devices import Device

#: Fields of a device in JSON.
_FIELDS = ("name", "kind", "description", "backend", "memory_free", "memory_total")
_HEADER = ("name", "kind", "memory free/total", "description")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@click.option("--verbose", is_flag=True, help="Also show the features llama.cpp was built with.")
def devices(as_json: bool, verbose: bool) -> None:
    """List the devices llama.cpp can use, by the names that --device takes."""
    from localspec.llama import binding

    found = binding.devices()
    if as_json:
        rows = [{name: getattr(device, name) for name in _FIELDS} for device in found]
        click.echo(json.dumps({"devices": rows, "system_info": binding.system_info()}))
        return
    from localspec.cli.terminal.style import columns

    click.echo("\n".join(table(found, columns(sys.stdout))))
    if verbose:
        click.echo(f"\n{binding.system_info()}")


def table(found: Sequence[Device], width: int) -> list[str]:
    """Aligned columns; on a narrow terminal the description goes on a line of its own."""
    if not found:
        return ["llama.cpp reports no device."]
    rows = [_HEADER, *((d.name, d.kind, _memory(d), d.description) for d in found)]
    wide = [max(len(row[i]) for row in rows) for i in range(3)]
    one_line = sum(wide) + 6 + max(len(row[3]) for row in rows) <= width
    lines = []
    for name, kind, memory, description in rows:
        start = f"{name:<{wide[0]}}  {kind:<{wide[1]}}  {memory:<{wide[2]}}"
        if one_line:
            lines.append(f"{start}  {description}".rstrip())
        else:
            lines += [start.rstrip()] if description == _HEADER[3] else [start.rstrip(), f"  {description}"]
    return lines


def _memory(device: Device) -> str:
    from localspec.memory.estimate import memory_text

    return f"{memory_text(device.memory_free)}/{memory_text(device.memory_total)}" if device.memory_total else "-"
