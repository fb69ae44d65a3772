"""Costs of a pair before they are measured: a shipped curve of the kind of device, scaled by the passes so far."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from localspec.control.costs import Costs, Curve, DraftCosts

#: Folder of the curves that ship, one JSON file each, named after its kind of machine.
CURVES = Path(__file__).parent / "curves"
#: Bandwidth in bytes of weights a second: the scale before the first pass; passes correct it.
_CPU_BANDWIDTH = 20e9
_GPU_BANDWIDTH = 300e9


@dataclass(frozen=True)
class PairSize:
    """Bytes of a target's weights, and the name and bytes of a drafter that decodes; ``gpu``: layers are on a GPU."""

    target: int
    gpu: bool = False
    drafter: str | None = None
    draft: int = 0


def prior_costs(size: PairSize, passes: Mapping[int, float]) -> Costs:
    """Return costs from the ``passes`` measured so far (width → seconds), and from the shipped curve scaled by them.

    The scale at a width is that of the nearest measured one. A drafter's pass costs its share of the weights.
    """
    shape = _shipped("gpu" if size.gpu else "cpu")
    nominal = size.target / (_GPU_BANDWIDTH if size.gpu else _CPU_BANDWIDTH)
    measured = passes or {1: max(nominal, 1e-6)}

    def seconds(width: int) -> float:
        if width in measured:
            return measured[width]
        nearest = min(measured, key=lambda known: (abs(known - width), known))
        return shape.seconds(width) * measured[nearest] / shape.seconds(nearest)

    widths = tuple(sorted({1, *shape.widths, *measured}))
    verify = Curve(widths, tuple(seconds(width) for width in widths))
    checkpoint = verify.seconds(1)  # dear, as long as it is not measured
    if size.drafter is None:
        return Costs(verify, checkpoint=checkpoint)
    share = size.draft / max(1, size.target)
    first = verify.scaled(share) if size.drafter == "model" else Curve((1,), (share * verify.seconds(1),))
    return Costs(verify, {size.drafter: DraftCosts(first, share * verify.seconds(1))}, checkpoint=checkpoint)


def _shipped(name: str) -> Curve:
    record = json.loads((CURVES / f"{name}.json").read_text(encoding="utf-8"))
    return Costs.from_dict(record).verify
