"""What :mod:`localspec.memory.fit` needs to know of the machine that this runs on, and of what is to be loaded."""

from __future__ import annotations

from localspec.gguf.header import GgufHeader
from localspec.llama import binding
from localspec.llama.host import available_memory, total_memory
from localspec.memory.estimate import repacked_types
from localspec.memory.fit import Fit, Load, Machine, fit, weights
from localspec.params import MAX_VERIFY_WIDTH, PROBE_WIDTH, ContextParams


def this_machine() -> Machine:
    """Its memory and devices, now."""
    repacks = repacked_types(binding.system_info())
    return Machine(total_memory(), available_memory(), tuple(binding.devices()), repacks)


def load_of(target: GgufHeader, kind: str, drafter: GgufHeader | None, draft_max: int | None = None) -> Load:
    """A load as :func:`localspec.load` does it; ``kind`` of drafter: none, ngram, mtp or model."""
    rows = 1 if kind == "none" else min(MAX_VERIFY_WIDTH, max(PROBE_WIDTH, (draft_max or 0) + 1))
    return Load(weights(target), weights(drafter, assistant=kind == "mtp") if drafter else None, rows)


def fit_here(load: Load, params: ContextParams) -> Fit:
    """Settings with which it fits this machine. Raises :class:`UsageError` where none do."""
    return fit(load, params, this_machine())
