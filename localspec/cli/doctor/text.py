"""doctor's report as lines for a terminal. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from localspec.memory.estimate import memory_text
from localspec.models.hub.names import short_name

if TYPE_CHECKING:
    from localspec.generation.guard import Guard

#: Width of the names on the left; on a narrow terminal what follows a line is indented by less.
_LEFT, _NARROW = 11, 60
#: Models that are named, of those on disk.
_NAMED = 3
#: Widths whose passes are compared with single ones.
_SHOWN = ("2", "4", "8", "16")


def lines(report: dict[str, Any], width: int | None = None) -> list[str]:
    """The verdict first, the next steps last; wrapped at ``width`` columns, except for commands (None: not at all)."""
    rows = [*_machine(report["machine"], report["build"]), *_pair(report), *_models(report["models"], report["fits"])]
    found = [*_wrap(report["verdict"]["text"], width), ""]
    for name, text in rows:
        found += _wrap(f"{name:<{_LEFT}}{text}", width, _LEFT if (width or 80) >= _NARROW else 2)
    return [*found, "", *_steps(report["next"], width)]


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


def cost_text(costs: dict[str, Any] | None) -> str | None:
    """The curve in a sentence: how fast plain decoding is, and what wider passes cost."""
    if costs is None:
        return None
    passes = {n: float(ms) for n, ms in costs["verify_ms"].items()}
    plain = passes["1"]
    told = f"{1000 / plain:.3g} tokens/s without drafts"
    wider = [(n, passes[n] / plain) for n in _SHOWN if n in passes]
    if wider:
        told += f"; passes over {_listed([n for n, _ in wider])} tokens cost {_listed([f'{x:.2g}' for _, x in wider])} "
        told += "times a single one"
    for name, ms in costs["draft_token_ms"].items():
        told += f", a draft token of {name} {ms / plain:.2g}"
    return told


def _machine(machine: dict[str, Any], build: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [
        ("localspec", f"{machine['localspec']}, Python {machine['python']}, {machine['platform']}"),
        ("llama.cpp", f"llama-cpp-python {build['version']}, built for {', '.join(build['backends']) or 'the CPU'}"),
        ("processor", " ".join(machine["cpu_features"]) or "no features reported"),
    ]
    if machine["memory"]:
        free = f", {memory_text(machine['memory_free'])} free" if machine["memory_free"] else ""
        rows.append(("memory", f"{memory_text(machine['memory'])}{free}"))
    for device in machine["devices"]:
        text = f"{device['name']} ({device['kind']}), {device['description']}"
        if device["kind"] in ("gpu", "igpu") and device["memory_total"]:
            text += f", {memory_text(device['memory_free'])} of {memory_text(device['memory_total'])} free"
        rows.append(("device", text))
    return rows


def _pair(report: dict[str, Any]) -> list[tuple[str, str]]:
    from localspec.generation.guard import Guard

    pair = report["pair"]
    takes = f", {memory_text(pair['memory'])} of memory" if pair["memory"] else ""
    drafters = "+".join(pair["drafters"]) or "none"
    guard = Guard(pair["exact_width"] or 1, pair["noise"], pair["greedy_noise"], pair["widest"])
    rows = [
        ("pair", f"{short_name(pair['target'])}, drafter {drafters}, {pair['context']} tokens{takes}"),
        ("exactness", verdict(pair["exactness"], bool(pair["drafters"]), guard)),
    ]
    costs = cost_text(report["costs"])
    return [*rows, ("costs", costs)] if costs else rows


def _models(disk: Sequence[dict[str, Any]], fits: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    models = [row for row in disk if row["role"] == "model"]
    named = [f"{row['name']} with {_listed(row['drafters']) or 'n-gram lookup'}" for row in models[:_NAMED]]
    more = len(models) - len(named)
    if more:
        named.append(f"{more} more (localspec list)")
    rows = [("on disk", "; ".join(named) or "no model was pulled")]
    fitting, others = ([row for row in fits if row["fits"] == fit and row["download"]] for fit in (True, False))
    if fitting:
        best = fitting[-1]
        text = f"{_listed([row['title'] for row in fitting])}: the last takes {best['download'] / 1e9:.1f} GB of disk "
        rows.append(("fits", f"{text}and {memory_text(best['needs'])} of memory"))
    elif others:
        rows.append(
            ("fits", f"the built-in pair; {others[0]['title']} takes {memory_text(others[0]['needs'])} of memory")
        )
    return rows


def _steps(steps: Sequence[dict[str, Any]], width: int | None) -> list[str]:
    found = ["Next:"]
    for step in steps:
        found += _wrap(f"- {step['text']}", width, 2)
        for number, command in enumerate(step["commands"]):
            found += ["  or"] * (number > 0) + [f"    {command}"]
    return found


def _listed(items: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join(filter(None, [", ".join(items[:-1]), *items[-1:]]))


def _wrap(text: str, width: int | None, indent: int = 0) -> list[str]:
    if width is None:
        return [text]
    # Not the blanks between the columns.
    head, rest = (text[:_LEFT], text[_LEFT:]) if text[:_LEFT].endswith(" ") and indent else ("", text)
    body = textwrap.wrap(
        rest, max(width, 20), initial_indent=head, subsequent_indent=" " * indent, break_on_hyphens=False
    )
    return body or [head]
