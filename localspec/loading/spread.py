"""Spread the layers of a target over this machine and workers: probe the workers, then plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log

from localspec.gguf.header import GgufHeader
from localspec.llama.devices import Split
from localspec.llama.host import default_threads
from localspec.llama.split import local_gpu
from localspec.machines.address import Address
from localspec.machines.plan import Load, Plan, Site, kept_layers, make_plan
from localspec.machines.probe import Worker, probe_all
from localspec.machines.worker import require_rpc
from localspec.memory.cache_types import split_cache_types
from localspec.memory.estimate import layer_weights
from localspec.memory.fit import LoadRequest, LoadSettings, Machine, context_size
from localspec.params import ContextParams
from localspec.probe.machine_speed import read_bandwidth

#: Bytes a second that a local GPU is taken to read, which is not measured.
_GPU_SPEED = 3e11
#: Part of a machine's free memory that is left to others.
_MARGIN = 1 / 16
#: Bytes of a machine that does not tell its memory.
_UNKNOWN = 1 << 50


@dataclass(frozen=True)
class Spread:
    """A plan, what the probes found, and the settings of a load by it. ``workers``: those that hold layers."""

    plan: Plan
    found: tuple[Worker, ...]
    workers: tuple[Address, ...]
    split: Split
    settings: LoadSettings


def spread_layers(
    addresses: Sequence[Address], request: LoadRequest, params: ContextParams, machine: Machine
) -> Spread:
    """Probe the workers and place the layers of ``request``'s target.

    Raises :class:`MissingFeatureError` without RPC, :class:`WorkerError` for a worker that cannot be used, and
    :class:`UsageError` where the layers do not fit.
    """
    require_rpc()
    header = request.target.headers[0]
    params = split_cache_types(header, params)
    found = probe_all(addresses, _main_type(request.target.headers))
    places = {
        name: (str(worker.address), number, site)
        for worker in found
        for number, (name, site) in enumerate(_sites(worker))
    }
    n_ctx = context_size(header, params)
    load = _load(request, params, n_ctx)
    plan = make_plan(load, _here(request, params, machine), [site for *_, site in places.values()])
    shares = tuple((*places[share.site.name][:2], share.count) for share in plan.workers)
    split = Split(shares, plan.local.count, _link(plan), load.local_first)
    used = {endpoint for endpoint, *_ in shares}
    own = replace(params, cache_type_k=None, cache_type_v=None)
    settings = LoadSettings(params, own, n_ctx, notices=(_notice(plan, repacked=_repacked(request, params, machine)),))
    return Spread(plan, found, tuple(a for a in addresses if str(a) in used), split, settings)


def _main_type(headers: Sequence[GgufHeader]) -> int:
    """The type that most bytes of the matrices have."""
    sizes = Counter[int]()
    for header in headers:
        for tensor in header.multiplied:
            sizes[tensor.type] += tensor.bytes or 0
    return max(sizes, key=lambda kind: sizes[kind])


def _link(plan: Plan) -> str:
    """Round trips and bandwidths, each to a power of four: what is measured over one link holds for similar ones."""
    facts = [(1e6 * share.site.round_trip_s, share.site.bandwidth / 1e3) for share in plan.workers]
    return " ".join(f"{round(log(max(trip, 1), 4))}/{round(log(max(band, 1), 4))}" for trip, band in facts)


def _sites(worker: Worker) -> list[tuple[str, Site]]:
    """The devices of a worker, by name. The user's number of layers is for the first."""
    sites = []
    for number, device in enumerate(worker.devices):
        name = str(worker.address) if len(worker.devices) == 1 else f"{worker.address} device {number}"
        layers = worker.address.layers if number == 0 or worker.address.layers is None else 0
        free = int(device.free * (1 - _MARGIN))
        sites.append((name, Site(name, free, device.speed, worker.round_trip_s, worker.bandwidth or 1.0, layers)))
    return sites


def _here(request: LoadRequest, params: ContextParams, machine: Machine) -> Site:
    """This machine, without the memory of the drafter."""
    drafter = request.memory(params, 1, machine)[1]
    taken = drafter.resident if drafter else 0
    if (gpu := local_gpu(params)) is not None:
        return Site(f"this machine ({gpu.name})", max(0, int(gpu.memory_free * (1 - _MARGIN)) - taken), _GPU_SPEED)
    free = machine.available or machine.memory or _UNKNOWN
    return Site("this machine", max(0, int(free * (1 - _MARGIN)) - taken), read_bandwidth(default_threads()))


def _load(request: LoadRequest, params: ContextParams, n_ctx: int) -> Load:
    target, assistant = request.target, bool(request.drafter and request.drafter.assistant)
    header, weights = target.headers[0], layer_weights(target.headers)
    pattern = header.metadata.get(f"{header.architecture}.attention.sliding_window_pattern", ())
    kinds = [bool(kind) for kind in pattern] if isinstance(pattern, tuple) else []
    shared = max(0, header.number("attention.shared_kv_layers") or 0)
    kept = kept_layers(len(weights) - 1, shared, kinds, assistant=assistant)
    row = 4 * (header.number("embedding_length") or 0)
    on_cpu = local_gpu(params) is None
    return Load(
        target.name,
        weights,
        target.caches(params, n_ctx),
        min(kept, len(weights)),
        target.buffers(params, n_ctx),
        row,
        local_first=kept == 1 and on_cpu,
        fetches=2 if kept > 1 and on_cpu else 1,
    )


def _repacked(request: LoadRequest, params: ContextParams, machine: Machine) -> bool:
    """True if this machine's CPU has kernels for the target's matrices that workers lack; these round differently."""
    return local_gpu(params) is None and request.memory(params, 1, machine)[0].repacked > 0


def _notice(plan: Plan, *, repacked: bool) -> str:
    """Who holds what, and whether that changes answers."""
    if not plan.workers:
        return "All layers stay on this machine, where they are faster than over the links; --rpc HOST:PORT=N sends N."
    parts = [f"{share.site.name} holds {_range(share.layers)}" for share in plan.workers]
    found = f"{', '.join(parts)}; the rest and the output are here."
    if repacked:
        found += " Workers compute its layers with other rounding; with --exactness require this machine does so, too."
    return found


def _range(layers: Sequence[int]) -> str:
    return f"layers {layers[0]} to {layers[-1]}" if len(layers) > 1 else f"layer {layers[0]}"
