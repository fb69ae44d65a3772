"""Exactness of what ``localspec pull`` fetches: exact files are preferred, and each choice has its price.

Only on a CPU: there the types of the matrices decide. On a GPU the kernels do, and passes of a fixed width are the way.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from localspec.errors import LocalspecError
from localspec.files import size_text
from localspec.memory.speed import expected_speed, rate_text

if TYPE_CHECKING:
    from localspec.memory.speed import MachineSpeed
    from localspec.models.hub.remote import Hub
    from localspec.models.pull import PullPlan, RemoteModel
    from localspec.models.row_types import RowTypes
    from localspec.models.store import StoredModel

Note = Callable[[str], None]


def prefer_exact(hub: Hub, text: str, plan: PullPlan, note: Note) -> PullPlan:
    """``plan``, or that of the exact file if ``text`` leaves the choice open and only that file is exact here.

    ``text``: the name as typed. ``note`` is told both files with their prices.
    """
    from localspec.models import store
    from localspec.models.hub.names import exact_alternative
    from localspec.models.pull import plan_pull

    other = exact_alternative(text)
    if other is None or plan.target is None or plan.target.on_disk() or not _on_cpu():
        return plan
    if store.find(other.repo, role="model"):
        return replace(plan, target=plan_pull(hub, other, draft="none").target)
    chosen = _peek(hub, plan.target)
    if chosen is None or chosen.exact:
        return plan
    with suppress(LocalspecError):  # there is no such repository now
        instead = plan_pull(hub, other, draft="none").target
        found = _peek(hub, instead) if instead else None
        if instead and found and found.exact:
            speed, draft = _speed(), plan.drafter.chosen.size if plan.drafter else 0
            note(f"Left out: {plan.target.name}, {_price(chosen, chosen.size, chosen.read, draft, speed)}")
            note(f"Taken: {instead.name}, {_price(found, found.size, found.read, draft, speed)}")
            return replace(plan, target=instead)
    return plan


def tell_types(target: StoredModel, drafter: StoredModel | None, note: Note) -> None:
    """Tell the price of a file whose rows are not exact on this CPU, and that of an exact copy where that is better."""
    from localspec.gguf.header import read_header
    from localspec.models.row_types import row_types

    try:
        types = row_types(read_header(target.path), target.size)
    except LocalspecError:
        return  # it is told when the file is loaded
    if types.exact or len(target.files) > 1 or not _on_cpu():
        return
    speed, draft = _speed(), drafter.size if drafter else 0
    note(f"Fetched: {target.name}, {_price(types, types.size, types.read, draft, speed)}")
    if not types.worth_a_copy:
        note("A file in Q4_0 or Q8_0 may be exact; `localspec quantize --exact` makes one of a BF16 file")
        return
    exact, out = replace(types, inexact=()), f"{target.path.stem}-exact.gguf"
    note(f"An exact copy: {_price(exact, types.copy, types.copy_read, draft, speed)}")
    command = shlex.join(["localspec", "quantize", str(target.path), out, "--exact", "--requantize"])
    note(f"To make it, with a little loss: `{command}`")


def _price(types: RowTypes, size: int, read: int, draft: int, speed: MachineSpeed | None) -> str:
    """``2.6 GB, 8.0 tokens/s, 12 tokens/s with drafts, not exact on this CPU (Q6_K)``."""
    parts = [size_text(size)]
    if speed is not None:
        expected = expected_speed(read, draft, speed)
        parts += [f"about {rate_text(expected.plain)}"]
        parts += [f"{rate_text(expected.drafted)} with drafts"] if draft and expected.drafted > expected.plain else []
    parts.append("exact on this CPU" if types.exact else f"not exact on this CPU ({', '.join(types.inexact)})")
    return ", ".join(parts)


def _peek(hub: Hub, model: RemoteModel) -> RowTypes | None:
    """Types of a remote model in one file; None if they cannot be read."""
    from localspec.models.peek import peek_header
    from localspec.models.row_types import row_types

    header = peek_header(hub, model.listing, model.files[0]) if len(model.files) == 1 else None
    return row_types(header, model.chosen.size) if header else None


def _on_cpu() -> bool:
    """True if llama.cpp is there and computes on the CPU."""
    try:
        from localspec.llama import binding

        return all(device.kind not in ("gpu", "igpu") for device in binding.devices())
    except (ImportError, OSError, RuntimeError):
        return False


def _speed() -> MachineSpeed | None:
    from localspec.probe.machine_speed import measure_machine

    return measure_machine(())
