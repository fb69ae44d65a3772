"""Whether a load fits this machine, and with which settings: decided from headers, before anything is loaded. Pure.

What is private must fit the memory: a load of which it does not is refused, with what would fit. Weights need not fit:
their pages are read from the file again, so such a load is slow, and gets a notice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from localspec.errors import UsageError
from localspec.files import parts
from localspec.gguf.header import GgufHeader, read_header
from localspec.llama.devices import Device, chosen_gpus
from localspec.memory.estimate import BASE, MIB, ModelMemory, model_memory, peak, private
from localspec.memory.gpu_layers import ALL, Weights, capacity, device_bytes, gpu_layers, largest, room, shares_memory
from localspec.params import ContextParams

DEFAULT_CTX = 8192
_GIB = 1 << 30
#: Contexts are proposed in steps of so many tokens, and not below so many.
_STEP, _SMALLEST = 256, 512
#: Where the user did not say how large the context should be, it is made no smaller than this.
_LEAST_DEFAULT = 2048
_NO_COPY = (
    "The memory has no room for a second copy of the weights, in the order that this CPU likes best: decoding without "
    "it, which is slower. A smaller quant would fit with it."
)


@dataclass(frozen=True)
class Machine:
    """Its memory, all and free, in bytes (None: not told), devices, and what this CPU has ``repacked``.

    The last is of :func:`localspec.memory.estimate.repacked_types`.
    """

    memory: int | None
    available: int | None = None
    devices: Sequence[Device] = ()
    repacks: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Load:
    """What is to be loaded, and how many rows the widest verification in use has."""

    target: Weights
    drafter: Weights | None = None
    rows: int = 1

    @property
    def models(self) -> list[Weights]:
        return [model for model in (self.target, self.drafter) if model]

    def memory(self, params: ContextParams, n_ctx: int, machine: Machine) -> tuple[ModelMemory, ModelMemory | None]:
        """Of both models, with every layer on the CPU."""
        repacks = machine.repacks if params.repack else {}
        target = model_memory(self.target.parts, params, n_ctx, repacks, rows=self.rows)
        if self.drafter is None:
            return target, None
        drafter = self.drafter
        return target, model_memory(drafter.parts, params, n_ctx, repacks, rows=1, assistant=drafter.assistant)


@dataclass(frozen=True)
class Fit:
    """How a load is done: the settings of both models, what it takes, and what to tell the user.

    In bytes: ``peak``, the most that is resident at once in the host's memory; ``private``, what of it cannot be
    dropped; ``device``, what the GPUs hold.
    """

    target: ContextParams
    drafter: ContextParams
    n_ctx: int
    peak: int = 0
    private: int = 0
    device: int = 0
    notices: tuple[str, ...] = ()


def context_size(header: GgufHeader, params: ContextParams) -> int:
    """Tokens: what was asked for, else the model's own, at most 8192."""
    return params.ctx_size or min(header.number("context_length") or DEFAULT_CTX, DEFAULT_CTX)


def weights(header: GgufHeader, *, assistant: bool = False) -> Weights:
    """The model of ``header``, with all parts that are there of a split file of which it is the first."""
    rest = parts(header.path)[1:]
    return Weights((header, *(read_header(path, model=False) for path in rest)), assistant)


def fit(load: Load, params: ContextParams, machine: Machine) -> Fit:
    """Settings with which ``load`` fits ``machine``: ``params``, and what they leave open.

    Raises :class:`UsageError` where there are none; the message names what would fit.
    """
    gpus = chosen_gpus(machine.devices, params)
    placed = _on_gpus(load, Fit(params, params, context_size(load.target.parts[0], params)), gpus)
    found = _measured(load, placed, gpus, machine)
    if machine.memory is None or found.private <= machine.memory:
        return replace(found, notices=(*found.notices, *_slow(load, found, machine)))
    plain = replace(placed, target=replace(placed.target, repack=False), drafter=replace(placed.drafter, repack=False))
    plain = _measured(load, plain, gpus, machine)
    if plain.private <= machine.memory:
        return replace(plain, notices=(*plain.notices, _NO_COPY))
    tokens = _largest_context(load, plain, gpus, machine)
    if params.ctx_size is not None or tokens < _LEAST_DEFAULT:
        raise UsageError(_refusal(load, plain, gpus, machine, tokens))
    short = f"The memory has room for a context of {tokens} tokens, which is what it gets. A smaller quant leaves more."
    target, drafter = (replace(settings, ctx_size=tokens) for settings in (plain.target, plain.drafter))
    found = _measured(load, replace(plain, target=target, drafter=drafter, n_ctx=tokens), gpus, machine)
    return replace(found, notices=(*found.notices, short))


def _on_gpus(load: Load, found: Fit, gpus: Sequence[Device]) -> Fit:
    """With layers on the GPUs: as many as were asked for, or refused, where the user says; else as many as fit."""
    params, n_ctx, space = found.target, found.n_ctx, room(gpus)
    if not gpus or params.gpu_layers == 0 or space is None:
        return found
    large, small = gpu_layers(load.target, load.drafter, params, n_ctx, gpus)
    count, names = load.target.n_layers, " and ".join(device.name for device in gpus)
    if params.gpu_layers is None:
        told = (
            f"{names} has {gib(space)} to spare: {large} of {count} layers of {load.target.name} fit there, and the "
            "others stay on the CPU. A smaller quant or a smaller --ctx-size would let more fit."
        )
        layers = replace(params, gpu_layers=large), replace(params, gpu_layers=small)
        return replace(found, target=layers[0], drafter=layers[1], notices=() if large == ALL else (told,))
    need = sum(device_bytes(model, params, n_ctx, params.gpu_layers) for model in load.models)
    if need > capacity(gpus):
        wanted = "all" if params.gpu_layers < 0 else params.gpu_layers
        fitting = count if large == ALL else large
        raise UsageError(
            f"-ngl {wanted} with a context of {n_ctx} tokens needs {gib(need)} on {names}, which has "
            f"{gib(capacity(gpus))}; {fitting} of {count} layers fit (-ngl {fitting}, or leave it out)."
        )
    if need <= space:
        return found
    return replace(found, notices=(f"{names} has {gib(space)} to spare and {gib(need)} are asked for: it may fail.",))


def _measured(load: Load, found: Fit, gpus: Sequence[Device], machine: Machine) -> Fit:
    """``found`` with what it takes."""
    target, drafter = load.memory(found.target, found.n_ctx, machine)
    asked = (found.target.gpu_layers, found.drafter.gpu_layers)
    layers = [ALL if n is None else n for n in asked] if gpus else [0, 0]
    if not any(layers[: len(load.models)]):
        return replace(found, peak=peak(target, drafter), private=private(target, drafter), device=0)
    host, device = BASE, 0
    for model, offloaded, memory in zip(load.models, layers, (target, drafter), strict=False):
        assert memory is not None
        caches = model.caches(found.target, found.n_ctx)
        first = 0 if offloaded < 0 else max(0, len(caches) - offloaded)
        host += memory.vocabulary + memory.rows + sum(caches[:first])
        device += device_bytes(model, found.target, found.n_ctx, offloaded)
    if any(shares_memory(gpu) for gpu in gpus):
        return replace(found, peak=host + device, private=host + device, device=device)
    files = sum(memory.file for memory in (target, drafter) if memory)
    return replace(found, peak=host + files, private=host, device=device)


def _largest_context(load: Load, found: Fit, gpus: Sequence[Device], machine: Machine) -> int:
    """Tokens of the largest context up to that of ``found`` that fits; 0 where none does."""

    def fits(steps: int) -> bool:
        return _measured(load, replace(found, n_ctx=steps * _STEP), gpus, machine).private <= (machine.memory or 0)

    return largest(found.n_ctx // _STEP, fits) * _STEP


def _refusal(load: Load, found: Fit, gpus: Sequence[Device], machine: Machine, tokens: int) -> str:
    """What does not fit, and what would."""
    most = machine.memory or 0
    told = (
        f"{load.target.name} with a context of {found.n_ctx} tokens needs {gib(found.private)} beside its weights, and "
        f"this machine has {gib(most)}"
    )
    if tokens >= _SMALLEST:
        tokens = min(tokens, load.target.parts[0].number("context_length") or tokens)  # what it was trained for
        return f"{told}; a context of {tokens} tokens fits (--ctx-size {tokens})."
    if load.drafter and _measured(replace(load, drafter=None), found, gpus, machine).private <= most:
        return f"{told}; it fits without {load.drafter.name} (-d ngram, or -d none)."
    return f"{told}; use a smaller model."


def _slow(load: Load, found: Fit, machine: Machine) -> list[str]:
    """A notice where weights will be read from the file over and over, or where other programs hold the memory."""
    if machine.memory is None or found.device:
        return []
    copies = [memory for memory in load.memory(found.target, found.n_ctx, machine) if memory]
    copied = sum(memory.repacked for memory in copies)
    need = found.private + max(0, sum(memory.file for memory in copies) - copied)
    if need > machine.memory:
        left = max(0, machine.memory - (found.private - copied))
        return [
            f"The weights do not fit: with the cache they take {gib(need)} of {gib(machine.memory)}, and are read from "
            f"the disk again and again, which is slow. Files of together {gib(left)} would stay in memory."
        ]
    if machine.available is not None and found.private > machine.available:
        return [
            f"This takes {gib(found.private)} of memory, and {gib(machine.available)} is free: other programs may slow "
            "down. Close some, or set a smaller --ctx-size."
        ]
    return []


def gib(size: int) -> str:
    """Bytes as people say them."""
    return f"{size / _GIB:.1f} GiB" if size >= _GIB // 10 else f"{max(1, round(size / MIB))} MiB"
