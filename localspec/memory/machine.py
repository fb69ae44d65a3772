"""This machine as :mod:`localspec.memory.fit` needs it."""

from __future__ import annotations

from localspec.llama import binding
from localspec.llama.host import available_memory, total_memory
from localspec.memory.estimate import repacked_types
from localspec.memory.fit import Machine


def read_machine() -> Machine:
    """Memory and devices now, in use by other programs included."""
    repacks = repacked_types(binding.system_info())
    return Machine(total_memory(), available_memory(), tuple(binding.devices()), repacks)
