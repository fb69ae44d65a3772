"""Options of a model whose layers are on several machines, and of its shell without weights."""

from __future__ import annotations

import ctypes
from typing import Any

from localspec.llama.binding import devices, lib, set_fields
from localspec.llama.devices import Device, Split, chosen_gpus
from localspec.llama.rpc import cpu_buffer_type, cpu_device, rpc_devices
from localspec.params import ContextParams


class _Override(ctypes.Structure):
    """llama.cpp's ``llama_model_tensor_buft_override``."""

    _fields_ = [("pattern", ctypes.c_char_p), ("buffer_type", ctypes.c_void_p)]


def shell_options(options: Any) -> tuple[Any, ...]:
    """Load facts and vocabulary alone: the weights are in another process. Returns what must live until then."""
    none = (ctypes.c_void_p * 1)(None)
    set_fields(
        options,
        n_gpu_layers=0,
        devices=ctypes.cast(none, ctypes.c_void_p),
        no_alloc=True,
        load_mode=lib.LLAMA_LOAD_MODE_NONE,
    )
    return (none,)


def place_split(options: Any, split: Split, params: ContextParams) -> tuple[Any, ...]:
    """Connect to the workers and place the layers. Returns the arrays that must live until the model is loaded.

    llama.cpp cuts its layers at the sums of ``tensor_split`` over their total, so the numbers of layers themselves give
    exactly those. The last ones are those of devices, so this machine's first ones are its CPU's. Where it has the last
    ones, it is a device of its own: beside llama.cpp's own use of the CPU it then fetches rows twice. llama.cpp aborts
    the process where it cannot connect.
    """
    known = {endpoint: rpc_devices(endpoint) for endpoint in dict.fromkeys(name for name, *_ in split.remote)}
    gpu = local_gpu(params)
    handles = [known[endpoint][device] for endpoint, device, _ in split.remote]
    remote, patterns = sum(split.counts), ["^(output|token_embd)"]
    if split.local_first:
        devices_of, counts = handles, [*split.counts[:-1], split.counts[-1] + 1]  # with the output, which stays here
        set_fields(options, n_gpu_layers=remote + 1)
    else:
        devices_of, counts = [*handles, gpu.handle if gpu else cpu_device()], [*split.counts, split.local]
        own = "|".join(map(str, range(remote, remote + split.local - 1)))
        patterns += [rf"^blk\.({own})\."] if own else []
    array = (ctypes.c_void_p * (len(devices_of) + 1))(*devices_of, None)
    shares = (ctypes.c_float * int(lib.llama_max_devices()))(*map(float, counts))
    set_fields(options, devices=ctypes.cast(array, ctypes.c_void_p), tensor_split=shares)
    if gpu is not None:
        return array, shares
    # Layers of the CPU as a device lack the order of weights that its kernels like best; those of a CPU buffer have it.
    overrides = (_Override * (len(patterns) + 1))(*[_Override(p.encode(), cpu_buffer_type()) for p in patterns])
    set_fields(options, tensor_buft_overrides=ctypes.cast(overrides, ctypes.c_void_p))
    return array, shares, overrides


def local_gpu(params: ContextParams) -> Device | None:
    """The GPU of this machine that holds its layers; None: its CPU does."""
    gpus = [device for device in chosen_gpus(devices(), params) if device.backend != "RPC"]
    return gpus[0] if gpus and params.gpu_layers != 0 else None
