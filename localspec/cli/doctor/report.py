"""The report of ``localspec doctor`` as one JSON object; :mod:`localspec.cli.doctor.text` formats it."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from localspec.cli.doctor.build import Advice, advise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from localspec.control.costs import Costs
    from localspec.engine import Engine
    from localspec.llama.devices import Device
    from localspec.machines.plan import Plan
    from localspec.memory.speed import MachineSpeed

#: Largest share of memory for a pair; other programs need the rest.
_SHARE = 0.85
Report = dict[str, Any]


def examine(engine: Engine) -> Report:
    """Report on this machine, this installation and a loaded pair."""
    from localspec.cli.doctor.hardware import facts
    from localspec.llama import binding
    from localspec.probe.machine_speed import measure_machine

    devices = binding.devices()
    found = facts(device.backend for device in devices)
    unused, pair, disk = advise(found), pair_record(engine), on_disk()
    speed = measure_machine(devices)
    fits = fitting(devices, speed)
    report = {
        "machine": machine_record(devices),
        "build": {
            "version": binding.build_id().partition(" ")[0],
            "libraries": os.environ.get(binding.LIBRARIES),
            "backends": sorted(found.backends),
            "unused": [asdict(one) for one in unused],
        },
        "pair": pair,
        "costs": costs_record(engine.costs),
        "machines": machines_record(engine.model.plan),
        "speed": asdict(speed) if speed else None,
        "models": disk,
        "fits": fits,
    }
    steps = [*unused, *pair_steps(pair), *model_steps(disk, fits)]
    return {"verdict": verdict(pair, bool(unused)), **report, "next": [asdict(step) for step in steps]}


def machine_record(devices: Sequence[Device]) -> Report:
    """Versions, memory, devices and CPU features."""
    import platform

    from localspec._version import __version__
    from localspec.cli.doctor.hardware import cpu_features
    from localspec.llama import binding
    from localspec.llama.host import available_memory, total_memory

    fields = ("name", "kind", "description", "backend", "memory_free", "memory_total")
    return {
        "localspec": __version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "llama_cpp": binding.build_id(),
        "cpu_features": cpu_features(binding.system_info()),
        "memory": total_memory(),
        "memory_free": available_memory(),
        "devices": [{name: getattr(device, name) for name in fields} for device in devices],
    }


def pair_record(engine: Engine) -> Report:
    """The loaded pair, its exactness, and the peak resident memory of this process in bytes."""
    from localspec.llama.host import peak_memory

    return {
        "target": engine.model.name,
        "drafters": list(engine.drafters),
        "context": engine.n_ctx,
        "exactness": engine.exactness,
        "widest": engine.passes.widest,
        "pass_width": engine.passes.width,
        "difference": engine.difference,
        "memory": peak_memory(),
    }


def costs_record(costs: Costs | None) -> Report | None:
    """Milliseconds of a pass by width, and of a draft token by drafter."""
    if costs is None:
        return None
    drafters = {name: round(1000 * one.step, 3) for name, one in costs.drafters.items()}
    return {"verify_ms": costs.verify.to_dict(), "draft_token_ms": drafters}


def machines_record(plan: Plan | None) -> list[Report] | None:
    """The layers of each machine, and the milliseconds of a pass over one token that the plan predicts there."""
    if plan is None:
        return None
    return [
        {
            "name": share.site.name,
            "layers": share.count,
            "memory_free": share.site.free,
            "bytes_per_s": round(share.site.speed),
            "round_trip_ms": round(1000 * share.site.round_trip_s, 3),
            "compute_ms": round(1000 * share.compute_s, 3),
            "link_ms": round(1000 * share.link_s, 3),
        }
        for share in plan.shares
    ]


def on_disk() -> list[Report]:
    """The pulled models with the drafters that were pulled for each, then the models of other programs."""
    from localspec.models import store
    from localspec.models.found.usable import usable_models

    rows: list[Report] = [
        {
            "name": model.name,
            "role": model.role,
            "bytes": model.size,
            "drafters": [drafter.name for drafter in store.drafters_for(model.name)],
            "source": "localspec",
        }
        for model in store.stored_models()
    ]
    for model in usable_models():
        row = {"name": model.name, "role": model.role, "bytes": model.size, "drafters": [], "source": model.source}
        rows.append(row)
    return rows


def fitting(devices: Sequence[Device], speed: MachineSpeed | None = None) -> list[Report]:
    """The recommended pairs, smallest first: the memory that each needs in bytes, and whether it fits this machine.

    ``tokens_per_s`` and ``drafted_tokens_per_s`` are expected at the ``speed`` of the machine, None where that is not
    known; ``usable`` is False for a pair that would decode much slower than people read.

    On a CPU most matrices are kept a second time, repacked for its kernels. The limit is the memory of the largest
    GPU that has its own, else the memory of the machine.
    """
    from localspec.llama.host import total_memory
    from localspec.memory.gpu_layers import shares_memory
    from localspec.memory.speed import expected_speed
    from localspec.models.recommended import RECOMMENDED

    total = total_memory()
    gpus = [device for device in devices if device.kind in ("gpu", "igpu")]
    own = max((gpu.memory_total for gpu in gpus if not shares_memory(gpu)), default=0)
    rows = []
    for pair in RECOMMENDED:
        needs = pair.needs if gpus else pair.needs + pair.target_size
        fits = total is None or (needs <= _SHARE * (own or total) and (own > 0 or pair.memory <= total))
        expected = expected_speed(pair.read, pair.drafter_size, speed) if speed else None
        rows.append(
            {
                "target": pair.target,
                "title": pair.title,
                "download": pair.download,
                "needs": needs,
                "licence": pair.licence,
                "fits": fits,
                "tokens_per_s": round(expected.plain, 2) if expected else None,
                "drafted_tokens_per_s": round(expected.drafted, 2) if expected else None,
                "usable": expected.usable if expected else True,
            }
        )
    return rows


def verdict(pair: Report, unused: bool) -> Report:
    """``level`` is ``good`` or ``improvable``; the text is the most important finding."""
    drafts, exactness = bool(pair["drafters"]), pair["exactness"]
    if unused:
        return {"level": "improvable", "text": "Works, but slower than it could: a GPU of this machine is not used."}
    if not drafts:
        return {
            "level": "improvable",
            "text": f"Works without speculation: {pair['target']} has no drafter.",
        }
    if exactness == "exact":
        return {"level": "good", "text": "All is well: drafting works and does not change the output."}
    if exactness == "off":
        return {"level": "improvable", "text": "Works; the output was not checked for changes by drafting."}
    return {"level": "improvable", "text": "Works; drafting may change the output."}


def pair_steps(pair: Report) -> list[Advice]:
    """Steps towards exact output."""
    if not pair["drafters"]:
        return [Advice("Leave out -d none, to have a drafter.")]
    if pair["exactness"] == "off":
        return [Advice("Leave out --exactness off, to check the output.")]
    if pair["exactness"] == "approximate":
        text = "For exact output, add --exactness require, or quantise a BF16 or F16 file exactly:"
        return [Advice(text, ("localspec quantize IN.gguf OUT.gguf --exact",))]
    return []


def model_steps(disk: Sequence[Report], fits: Sequence[Report]) -> list[Advice]:
    """The model to pull if there is none, else the one to chat with."""
    models = [row["name"] for row in disk if row["role"] == "model"]
    if models:
        return [Advice("Chat with a model on disk:", (f"localspec chat -m {models[0]}",))]
    best = [row for row in fits if row["fits"] and row.get("usable", True)][-1:]
    if best and best[0]["download"]:
        return [Advice(f"Pull {best[0]['title']}, which fits this machine:", (f"localspec pull {best[0]['target']}",))]
    return [Advice("Try the built-in pair:", ("localspec chat",))]
