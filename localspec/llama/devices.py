"""llama.cpp's devices, and the choice of those that a model is placed on."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from localspec.errors import UsageError
from localspec.llama.symbols import function
from localspec.params import ContextParams

DeviceKind = Literal["cpu", "gpu", "igpu", "accel"]
#: ggml's ``enum ggml_backend_dev_type``.
_KINDS: dict[int, DeviceKind] = {0: "cpu", 1: "gpu", 2: "igpu", 3: "accel"}


@dataclass(frozen=True)
class Device:
    """A device that llama.cpp can compute on; memory in bytes (0: it does not say)."""

    name: str
    description: str
    kind: DeviceKind
    memory_free: int
    memory_total: int
    backend: str
    handle: int = field(repr=False, compare=False, default=0)


@dataclass(frozen=True)
class Split:
    """Layers on devices of other machines, in order: endpoint, number of the device there, layers.

    The ``local`` ones, with the output, come after them; with ``local_first`` they come before them, and only the
    output after them. ``link``: text that differs between links on which passes cost differently.
    """

    remote: tuple[tuple[str, int, int], ...]
    local: int
    link: str = ""
    local_first: bool = False

    @property
    def counts(self) -> list[int]:
        """Layers of each remote device."""
        return [layers for *_, layers in self.remote]


@dataclass(frozen=True)
class Placement:
    """The devices of a model. ``handles`` is a NULL-terminated array of them, or None for llama.cpp's choice.

    ``split``: layers on other machines, where there are any.
    """

    gpu: bool
    layers: int
    handles: Any = None
    split: Split | None = None


def list_devices(libraries: Sequence[ctypes.CDLL]) -> list[Device]:
    """All devices, in llama.cpp's order."""
    pointer, size, text = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p
    sizes = ctypes.POINTER(size)
    find = partial(function, libraries)
    count = find("ggml_backend_dev_count", size)
    get = find("ggml_backend_dev_get", pointer, size)
    name = find("ggml_backend_dev_name", text, pointer)
    description = find("ggml_backend_dev_description", text, pointer)
    kind = find("ggml_backend_dev_type", ctypes.c_int, pointer)
    memory = find("ggml_backend_dev_memory", None, pointer, sizes, sizes)
    registry = find("ggml_backend_dev_backend_reg", pointer, pointer)
    registry_name = find("ggml_backend_reg_name", text, pointer)
    found = []
    for i in range(count()):
        handle, free, total = get(i), size(), size()
        memory(handle, ctypes.byref(free), ctypes.byref(total))
        found.append(
            Device(
                name(handle).decode(),
                description(handle).decode(errors="replace"),
                _KINDS.get(kind(handle), "accel"),
                free.value,
                total.value,
                registry_name(registry(handle)).decode(),
                handle,
            )
        )
    return found


def place(devices: Sequence[Device], params: ContextParams) -> Placement:
    """Place ``gpu_layers`` on the GPUs, if there are any (None: all; :mod:`localspec.memory.fit` finds how many fit).

    Raises :class:`UsageError` for a device that is not there; the message names those that are.
    """
    gpus = chosen_gpus(devices, params)
    layers = params.gpu_layers if params.gpu_layers is not None else (-1 if gpus else 0)
    if params.device is None:
        return Placement(gpu=bool(gpus) and layers != 0, layers=layers)
    if not gpus:
        return Placement(gpu=False, layers=0, handles=(ctypes.c_void_p * 1)(None))
    return Placement(gpu=layers != 0, layers=layers, handles=(ctypes.c_void_p * 2)(gpus[0].handle, None))


def chosen_gpus(devices: Sequence[Device], params: ContextParams) -> list[Device]:
    """The GPUs that layers may go to: the one that the user names, else llama.cpp's choice.

    llama.cpp takes every GPU with a memory of its own, and one that shares the host's only where there is no other.
    """
    gpus = [device for device in devices if device.kind in ("gpu", "igpu")]
    if params.device is None:
        return [device for device in gpus if device.kind == "gpu"] or gpus
    wanted = params.device.lower()
    if wanted in ("none", "cpu"):
        return []
    named = [device for device in gpus if device.name.lower() == wanted]
    if named:
        return named[:1]
    names = ", ".join(["cpu", *(device.name for device in gpus)])
    raise UsageError(f"there is no device {params.device!r}; there is: {names}. `localspec devices` tells more.")
