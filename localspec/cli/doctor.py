"""``localspec doctor``: what localspec finds here, and how sure a pair's output is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from localspec.cli._options import ModelOptions, model_options

if TYPE_CHECKING:
    from localspec.engine import Engine
    from localspec.exact import Guard

_GIB = 1024**3


@click.command(short_help="Say what works here, and how sure the output is.")
@model_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object in place of text.")
def doctor(models: ModelOptions, as_json: bool) -> None:
    """Look at this machine, and load a pair to see whether drafting changes nothing in its output."""
    from localspec.cli._engine import open_engine

    with open_engine(models) as engine:
        found = {"machine": _machine(), "pair": _pair(engine)}
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo("\n".join(_lines(found)))


def _machine() -> dict[str, Any]:
    import platform

    from localspec._version import __version__
    from localspec.backends import llama_cpp
    from localspec.backends.devices import total_memory

    devices = [
        {"name": device.name, "kind": device.kind, "description": device.description} for device in llama_cpp.devices()
    ]
    return {
        "localspec": __version__,
        "python": platform.python_version(),
        "llama_cpp": llama_cpp.build(),
        "memory": total_memory(),
        "devices": devices,
    }


def _pair(engine: Engine) -> dict[str, Any]:
    guard = engine.guard
    return {
        "target": engine.model.name,
        "drafters": list(engine.drafters),
        "exactness": engine.exactness,
        "exact_width": guard.width if engine.drafters else None,
        "widest": guard.widest,
        "noise": guard.noise,
        "greedy_noise": guard.greedy_noise,
    }


def _lines(found: dict[str, Any]) -> list[str]:
    from localspec.exact import Guard

    machine, pair = found["machine"], found["pair"]
    version, _, features = machine["llama_cpp"].partition(" ")
    lines = [f"localspec  {machine['localspec']}, Python {machine['python']}", f"llama.cpp  {version}", f"  {features}"]
    if machine["memory"]:
        lines.append(f"memory     {machine['memory'] / _GIB:.1f} GiB")
    lines += [
        f"device     {device['name']} ({device['kind']}), {device['description']}" for device in machine["devices"]
    ]
    drafters = "+".join(pair["drafters"]) or "none"
    lines.append(f"pair       {pair['target']}, drafter {drafters}")
    guard = Guard(pair["exact_width"] or 1, pair["noise"], pair["greedy_noise"], pair["widest"])
    lines.append(f"exactness  {verdict(pair['exactness'], bool(pair['drafters']), guard)}")
    return lines


def verdict(exactness: str, drafts: bool, guard: Guard) -> str:
    """What the probe found, and the next step where it is not the best."""
    if not drafts:
        return "exact: nothing drafts"
    if exactness == "exact":
        return f"exact: batches of up to {guard.widest} tokens give the rows of single decodes, bit for bit"
    if exactness == "off":
        return "off: not looked at; leave out --exactness off to have it probed"
    return (
        f"guarded: batches of more than {guard.width} tokens move logits by up to {guard.noise:.2g}, and choices that "
        "are closer get a row of their own; --exactness require picks settings that are exact, or refuses"
    )
