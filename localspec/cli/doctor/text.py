"""The report of ``localspec doctor`` as lines. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from localspec.cli.terminal.units import plural
from localspec.cli.terminal.wrap import wrap
from localspec.files import size_text
from localspec.memory.estimate import memory_text
from localspec.memory.speed import rate_text
from localspec.models.found.model import PROGRAMS
from localspec.models.hub.names import short_name
from localspec.types import difference_text

#: Columns of the names on the left; below _NARROW columns continued lines are indented by less.
_LEFT, _NARROW = 11, 60
#: Most models on disk that are named.
_NAMED = 3
#: Widths of passes that are compared with passes over one token.
_SHOWN = ("2", "4", "8", "16")


def report_lines(report: dict[str, Any], width: int | None = None) -> list[str]:
    """The verdict first, the next steps last. Wrapped at ``width`` columns except for commands; None: not at all."""
    rows = [
        *_machine(report["machine"], report["build"]),
        *_pair(report),
        *_machines(report),
        *_models(report["models"], report["fits"]),
        *_speed(report),
    ]
    found = [*_wrap(report["verdict"]["text"], width), ""]
    for name, text in rows:
        found += _wrap(f"{name:<{_LEFT}}{text}", width, _LEFT if (width or 80) >= _NARROW else 2)
    return [*found, "", *_steps(report["next"], width)]


def _machines(report: dict[str, Any]) -> list[tuple[str, str]]:
    """A row for each machine that holds layers, and what they predict together."""
    found = report.get("machines") or []
    rows = []
    for one in found:
        link = f" and {one['link_ms']:.1f} ms on the link" if one["link_ms"] else ""
        rows.append(
            f"{one['name']}: {plural(one['layers'], 'layer')}, {memory_text(one['memory_free'])} free, "
            f"{one['bytes_per_s'] / 1e9:.1f} GB/s: {one['compute_ms']:.1f} ms{link} a pass"
        )
    if found:
        predicted = sum(one["compute_ms"] + one["link_ms"] for one in found)
        verify = (report.get("costs") or {}).get("verify_ms", {}).get("1")
        measured = f"; measured: {float(verify):.1f} ms" if verify else ""
        rows.append(f"predicted for a pass over one token: {predicted:.1f} ms{measured}")
    return [("machines" if i == 0 else "", row) for i, row in enumerate(rows)]


def exactness_text(pair: dict[str, Any]) -> str:
    """The result of the probe, and the next step where it is not exact."""
    exactness, width, widest = pair["exactness"], pair["pass_width"], pair["widest"]
    padded = f", every pass padded to {width} rows" if width > 1 else ""
    if not pair["drafters"]:
        return f"exact: no drafter{padded}"
    if exactness == "exact" and padded:
        return f"exact{padded}: its rows do not depend on how many of them are drafts, bit for bit"
    if exactness == "exact":
        return f"exact: rows of passes over up to {widest} tokens equal those of single tokens, bit for bit"
    if exactness == "off":
        return "off: not probed; leave out --exactness off to probe it"
    return (
        f"approximate{padded}: logits of a draft's pass differ {difference_text(pair['difference'])} from those of "
        "plain decoding; --exactness require finds exact settings, or is an error"
    )


def cost_text(costs: dict[str, Any] | None) -> str | None:
    """The costs in a sentence: the speed of plain decoding, and the cost of wider passes over a single one."""
    if costs is None:
        return None
    passes = {n: float(ms) for n, ms in costs["verify_ms"].items()}
    plain = passes["1"]
    text = f"{1000 / plain:.3g} tokens/s without drafts"
    wider = [(n, passes[n] / plain) for n in _SHOWN if n in passes]
    if wider:
        text += f"; passes over {_listed([n for n, _ in wider])} tokens cost {_listed([f'{x:.2g}' for _, x in wider])} "
        text += "times a single one"
    for name, ms in costs["draft_token_ms"].items():
        text += f", a draft token of {name} {ms / plain:.2g}"
    return text


def _machine(machine: dict[str, Any], build: dict[str, Any]) -> list[tuple[str, str]]:
    kinds = ", ".join(build["backends"]) or "the CPU"
    chosen = f", with the libraries in {build['libraries']}" if build.get("libraries") else ""
    rows = [
        ("localspec", f"{machine['localspec']}, Python {machine['python']}, {machine['platform']}"),
        ("llama.cpp", f"llama-cpp-python {build['version']}, built for {kinds}{chosen}"),
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
    pair = report["pair"]
    takes = f", {memory_text(pair['memory'])} of memory" if pair["memory"] else ""
    drafters = "+".join(pair["drafters"]) or "none"
    rows = [
        ("pair", f"{short_name(pair['target'])}, drafter {drafters}, {pair['context']} tokens{takes}"),
        ("exactness", exactness_text(pair)),
    ]
    costs = cost_text(report["costs"])
    return [*rows, ("costs", costs)] if costs else rows


def _models(disk: Sequence[dict[str, Any]], fits: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
    models = [row for row in disk if row["role"] == "model"]
    named = [f"{row['name']} {_with(row)}" for row in models[:_NAMED]]
    more = len(models) - len(named)
    if more:
        named.append(f"{more} more (localspec list)")
    rows = [("on disk", "; ".join(named) or "no pulled model")]
    fitting, others = ([row for row in fits if row["fits"] == fit and row["download"]] for fit in (True, False))
    if fitting:
        best = fitting[-1]
        text = f"{_listed([row['title'] for row in fitting])}: the last takes {size_text(best['download'])} of disk "
        rows.append(("fits", f"{text}and {memory_text(best['needs'])} of memory"))
    elif others:
        rows.append(
            ("fits", f"the built-in pair; {others[0]['title']} takes {memory_text(others[0]['needs'])} of memory")
        )
    return rows


def _with(row: dict[str, Any]) -> str:
    """The drafters that were pulled for a model, or the program whose file it is."""
    program = PROGRAMS.get(row.get("source", ""))
    return f"of {program}" if program else f"with {_listed(row['drafters']) or 'n-gram lookup'}"


def _speed(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Bandwidth and arithmetic, and the tokens a second that are expected of each pair that fits."""
    if "speed" not in report:
        return []
    speed = report["speed"]
    if speed is None:
        return [("speed", "not estimated where a GPU has memory of its own; localspec bench measures a pair")]
    computes = f" and computes {speed['compute'] / 1e9:.0f} GFLOPS" if speed["compute"] else ""
    rows = [row for row in report["fits"] if row["fits"] and row["download"]]
    found = [
        f"{row['title']} {rate_text(row['tokens_per_s'])}, with drafts {rate_text(row['drafted_tokens_per_s'])}"
        + ("" if row["usable"] else " (slower than people read)")
        for row in rows
    ]
    return [("speed", f"reads {speed['bandwidth'] / 1e9:.0f} GB/s{computes}; expected: {'; '.join(found) or 'none'}")]


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
    # The blanks between the two columns are kept.
    head, rest = (text[:_LEFT], text[_LEFT:]) if text[:_LEFT].endswith(" ") and indent else ("", text)
    return wrap(rest, width, head, " " * indent)
