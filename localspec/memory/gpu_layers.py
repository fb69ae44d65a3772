"""Number of layers of a target and its drafter that fit on the GPUs together. Pure.

A GPU holds the weights of its layers, their cache, and buffers for a batch. llama.cpp moves layers there from the end
on, the output last of all; the token embedding stays in the host's memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from localspec.gguf.header import GgufHeader
from localspec.llama.devices import Device
from localspec.memory.estimate import (
    ASSISTANT_BATCH,
    MIB,
    compute_bytes,
    layer_caches,
    layer_weights,
    n_cells,
    recurrent_state,
)
from localspec.params import MAX_VERIFY_WIDTH, ContextParams

#: Part of a device's memory that is left free for the desktop and the driver, and its bounds in bytes.
_MARGIN = 1 / 16
_LEAST_MARGIN, _MOST_MARGIN = 256 * MIB, 1024 * MIB
#: ``-ngl`` for all layers.
ALL = -1


@dataclass(frozen=True)
class ModelParts:
    """The headers of all parts of a model's file. An ``assistant`` reads the target's cache and has none."""

    headers: Sequence[GgufHeader]
    assistant: bool = False

    @property
    def name(self) -> str:
        return self.headers[0].path.name

    @property
    def n_layers(self) -> int:
        """Layers as ``-ngl`` counts them: with the output."""
        return len(layer_weights(self.headers))

    def caches(self, params: ContextParams, n_ctx: int) -> list[int]:
        """Bytes of keys and values on a GPU, layer by layer; none for the output."""
        if self.assistant:
            return [0] * self.n_layers
        one = layer_caches(self.headers, n_cells(n_ctx, params), gpu=True, params=params)
        states = recurrent_state(self.headers) * (1 + params.rollback) // len(one)
        return [*(params.sequences * (size + states) for size in one), 0]

    def buffers(self, params: ContextParams, n_ctx: int) -> int:
        """Bytes that every GPU needs for a batch."""
        cells = n_cells(n_ctx, params)
        batch, rows = (ASSISTANT_BATCH, 1) if self.assistant else (params.batch, MAX_VERIFY_WIDTH)
        return compute_bytes(self.headers, cells, min(batch, cells), rows, cpu=False)


def device_bytes(model: ModelParts | None, params: ContextParams, n_ctx: int, layers: int) -> int:
    """Bytes on the GPUs of a model with its last ``layers`` there (−1: all)."""
    if layers == 0 or model is None:
        return 0
    weights = layer_weights(model.headers)
    first = 0 if layers < 0 else max(0, len(weights) - layers)
    return sum(weights[first:]) + sum(model.caches(params, n_ctx)[first:]) + model.buffers(params, n_ctx)


def free_bytes(gpus: Sequence[Device]) -> int | None:
    """Bytes of the GPUs that layers may fill; None where one does not report its memory."""
    if any(device.memory_total <= 0 for device in gpus):
        return None
    return sum(max(0, device.memory_free - _margin(device)) for device in gpus)


def capacity_bytes(gpus: Sequence[Device]) -> int:
    """Bytes beyond which a load is sure to fail.

    A device with a memory of its own has no other. Metal reports the part of the host's memory that it recommends to
    use, about three quarters, and can use all of it.
    """
    return sum(device.memory_total * 4 // 3 if shares_memory(device) else device.memory_total for device in gpus)


def shares_memory(device: Device) -> bool:
    """True if its memory is the host's: integrated GPUs, and every Metal device that llama.cpp is fast on."""
    return device.kind == "igpu" or _is_metal(device)


def gpu_layers(
    target: ModelParts, drafter: ModelParts | None, params: ContextParams, n_ctx: int, gpus: Sequence[Device]
) -> tuple[int, int]:
    """Layers of target and drafter that fit the GPUs together; −1 is all.

    The drafter goes first, whole, because it is small and computed for every token. Each of several GPUs has buffers of
    its own and leaves less than a layer of its memory empty. A GPU that does not report its memory takes all.
    """
    if not gpus:
        return 0, 0
    space = free_bytes(gpus)
    if space is None:
        return ALL, ALL
    if len(gpus) > 1:
        space -= len(gpus) * max(layer_weights(target.headers)) + (len(gpus) - 1) * target.buffers(params, n_ctx)
    small = device_bytes(drafter, params, n_ctx, ALL)
    large = largest_that_fits(target.n_layers, lambda n: device_bytes(target, params, n_ctx, n) + small <= space)
    if large > 0 or drafter is None:
        return _or_all(large, target), ALL if large > 0 else 0
    few = largest_that_fits(drafter.n_layers, lambda n: device_bytes(drafter, params, n_ctx, n) <= space)
    return 0, _or_all(few, drafter)


def largest_that_fits(most: int, fits: Callable[[int], bool]) -> int:
    """The largest number from 0 to ``most`` that fits, by bisection; 0 where none does."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _or_all(layers: int, model: ModelParts) -> int:
    return ALL if layers == model.n_layers else layers


def _margin(device: Device) -> int:
    """Bytes left free. None on Metal, whose recommendation leaves the system its share already."""
    if _is_metal(device):
        return 0
    return min(max(int(device.memory_total * _MARGIN), _LEAST_MARGIN), _MOST_MARGIN)


def _is_metal(device: Device) -> bool:
    return device.backend.lower() in ("metal", "mtl")
