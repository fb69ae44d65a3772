"""The results of all jobs as a short page. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

GIB = 2**30
_WIDTHS = ("1", "2", "4", "8", "16", "32", "64")


def page(about: Mapping[str, Any], jobs: Mapping[str, Mapping[str, Any]]) -> str:
    """Format as Markdown."""
    devices = [f"{one['name']} ({one['description']}, {one['backend']})" for one in about["build"]["devices"]]
    lines = [
        "# Check of a GPU",
        "",
        f"{about['date']}, localspec {about['localspec']}, {about['platform']}.",
        f"llama.cpp: {about['build']['how']}; devices: {', '.join(devices) or 'none'}. Weights are random.",
        "",
        *_table("Costs", ("pair", *(f"c({n})" for n in _WIDTHS), "draft token", "prefill"), _costs(jobs)),
        *_table("Rows that differ", ("pair", "passes of n tokens", "passes of a fixed width"), _rows(jobs)),
        *_table(
            "Answers that differ from plain decoding",
            ("pair", "drafter", "differing", "exactness", "padded to", "accepted", "tokens/s"),
            _answers(jobs),
        ),
        *_table("Doctor", ("pair", "verdict", "exactness"), _doctor(jobs)),
        *_table("Memory", ("pair", "layers on a GPU", "device", "estimate", "host peak", "estimate"), _memory(jobs)),
        *_table(
            "Gains at published rates", ("pair", "text", "rate", "best depth", "gain", "fixed width"), _gains(jobs)
        ),
        *_table("Replayed traces", ("pair", "category", "gain", "of the best fixed choice"), _traces(jobs)),
    ]
    unfinished = [f"{name}: {job['failed']}" for name, job in jobs.items() if job.get("failed")]
    cut_off = [name for name, job in jobs.items() if not job.get("failed") and not job.get("complete")]
    unfinished += [f"{name}: cut off by the time" for name in cut_off]
    return (
        "\n".join([*lines, *(["## Not finished", "", *(f"- {one}" for one in unfinished)] if unfinished else [])])
        + "\n"
    )


def _table(title: str, header: Sequence[str], rows: Iterator[Sequence[str]]) -> list[str]:
    found = list(rows)
    if not found:
        return []
    lines = [header, ["---"] * len(header), *found]
    return [f"## {title}", "", *(f"| {' | '.join(line)} |" for line in lines), ""]


def _costs(jobs: Mapping[str, Mapping[str, Any]]) -> Iterator[Sequence[str]]:
    """Milliseconds of a single pass, and of wider ones in multiples of it."""
    for job in jobs.values():
        if costs := job.get("costs"):
            verify = costs["verify"]
            one = verify["1"]
            ratios = [f"{verify[n] / one:.2f}" if n in verify else "" for n in _WIDTHS[1:]]
            step = next((drafter["step"] for drafter in costs["drafters"].values()), None)
            prefill = max(costs["prefill_tokens_per_s"].values(), default=0.0)
            yield (
                job["about"], f"{one:.2f} ms", *ratios, f"{step / one:.2f}" if step else "", f"{prefill:.0f} tokens/s"
            )  # fmt: skip


def _rows(jobs: Mapping[str, Mapping[str, Any]]) -> Iterator[Sequence[str]]:
    for job in jobs.values():
        if rows := job.get("rows"):
            yield (job["about"], *("; ".join(_counts(rows[kind])) for kind in ("variable", "fixed")))


def _counts(found: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for width, one in found.items():
        largest = f" ({one['largest']:.2g})" if one["differing"] else ""
        yield f"{width}: {one['differing']} of {one['rows']}{largest}"


def _answers(jobs: Mapping[str, Mapping[str, Any]]) -> Iterator[Sequence[str]]:
    for job in jobs.values():
        for drafter, one in job.get("answers", {}).items():
            speed = f"{one['tokens_per_s']:.1f}" if one["tokens_per_s"] else ""
            differing, accepted = f"{one['differing']} of {one['answers']}", f"{one['accepted']} of {one['proposed']}"
            width = str(one["pass_width"]) if one["pass_width"] > 1 else "-"
            yield (job["about"], drafter, differing, one["exactness"], width, accepted, speed)


def _memory(jobs: Mapping[str, Mapping[str, Any]]) -> Iterator[Sequence[str]]:
    for job in jobs.values():
        if memory := job.get("memory"):
            estimate, measured, placed = memory["estimate"], memory["measured"], memory["placement"]
            layers = "none" if not placed["gpu"] else "all" if placed["layers"] in (None, -1) else str(placed["layers"])
            device = sum(measured["device"].values())
            yield (
                job["about"], layers, _gib(device), _gib(estimate["device"]), _gib(measured["host_peak"] or 0),
                _gib(estimate["host_peak"]),
            )  # fmt: skip


def _doctor(jobs: Mapping[str, Mapping[str, Any]]) -> Iterator[Sequence[str]]:
    for job in jobs.values():
        if report := job.get("doctor"):
            yield job["about"], report["verdict"]["text"], report["pair"]["exactness"]


def _gains(jobs: Mapping[str, Mapping[str, Any]]) -> Iterator[Sequence[str]]:
    for job in jobs.values():
        for one in job.get("gains", []):
            fixed = ", ".join(f"{width}: {ratio:.2f}" for width, ratio in one["fixed"].items())
            yield job["about"], one["text"], f"{one['rate']:.2f}", str(one["depth"]), f"{one['ratio']:.2f}", fixed


def _traces(jobs: Mapping[str, Mapping[str, Any]]) -> Iterator[Sequence[str]]:
    for job in jobs.values():
        for one in job.get("traces", {}).get("categories", []):
            yield job["about"], one["category"], f"{one['ratio']:.2f}", f"{one['of_best_fixed']:.2f}"


def _gib(size: int) -> str:
    return f"{size / GIB:.2f} GiB"
