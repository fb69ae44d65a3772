"""Settings with which a load fits this machine, chosen from headers before anything is loaded. Pure.

Private bytes must fit the memory: a load whose private bytes do not fit is refused, and the message names what would
fit. Weights need not fit: their pages are read from the file again, so such a load is slow and gets a notice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from localspec.errors import UsageError
from localspec.files import parts
from localspec.gguf.header import GgufHeader, read_header
from localspec.llama.devices import Device, chosen_gpus
from localspec.memory.estimate import BASE, MIB, ModelMemory, memory_text, model_memory, peak, private
from localspec.memory.gpu_layers import (
    ALL,
    ModelParts,
    capacity_bytes,
    device_bytes,
    free_bytes,
    gpu_layers,
    largest_that_fits,
    shares_memory,
)
from localspec.models.eagle import read_layers
from localspec.params import MAX_VERIFY_WIDTH, PROBE_WIDTH, ContextParams

#: Most tokens of a context whose size the user leaves open.
DEFAULT_CTX = 8192
#: Most bytes of the caches of earlier conversations where the user leaves them open.
_KEPT = 1024 * MIB
#: Contexts are proposed in multiples of this many tokens.
_STEP = 256
#: Smallest context that a message proposes, in tokens.
_SMALLEST = 512
#: A context whose size the user leaves open is not made smaller than this, in tokens.
_LEAST_DEFAULT = 2048
_NO_COPY = (
    "The memory has no room for a second copy of the weights, in the order that this CPU likes best: decoding without "
    "it, which is slower. A smaller quant would fit with it."
)


@dataclass(frozen=True)
class Machine:
    """Memory in bytes, all and available (None: unknown), devices, and the types of which this CPU has a second copy.

    ``repacks``: see :func:`localspec.memory.estimate.repacked_types`.
    """

    memory: int | None
    available: int | None = None
    devices: Sequence[Device] = ()
    repacks: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class LoadRequest:
    """The models to load, and the rows of the widest verification.

    ``projector``: bytes of a projector with its buffers. ``keeps_rows``: hidden rows kept for each token of a text.
    """

    target: ModelParts
    drafter: ModelParts | None = None
    rows: int = 1
    projector: int = 0
    keeps_rows: int = 0

    @classmethod
    def from_headers(
        cls, target: GgufHeader, drafter: GgufHeader | None, kind: str, draft_max: int | None = None
    ) -> LoadRequest:
        """The request of :func:`localspec.load`; ``kind`` of drafter: none, ngram, mtp, heads or model."""
        rows = 1 if kind == "none" else min(MAX_VERIFY_WIDTH, max(PROBE_WIDTH, (draft_max or 0) + 1))
        heads = kind == "heads"
        return cls(
            model_parts(target, heads=heads and drafter is None),
            model_parts(drafter, assistant=kind == "mtp", heads=heads) if drafter else None,
            rows,
            keeps_rows=(len(read_layers(drafter)) or 1) if heads else 0,
        )

    @property
    def models(self) -> list[ModelParts]:
        return [model for model in (self.target, self.drafter) if model]

    def memory(self, params: ContextParams, n_ctx: int, machine: Machine) -> tuple[ModelMemory, ModelMemory | None]:
        """Memory of both models, with every layer on the CPU."""
        repacks = machine.repacks if params.repack else {}
        rows, kept = self.rows, self.keeps_rows
        headers = self.target.headers
        target = model_memory(headers, params, n_ctx, repacks, rows=rows, probed=PROBE_WIDTH, keeps_rows=kept)
        if self.drafter is None:
            return target, None
        drafter = self.drafter
        return target, model_memory(drafter.headers, params, n_ctx, repacks, rows=1, assistant=drafter.assistant)


@dataclass(frozen=True)
class LoadSettings:
    """Settings of both models, the memory that they take, and notices for the user.

    In bytes: ``peak``, the most that is resident at once in the host's memory; ``private``, the part of it that cannot
    be dropped; ``device``, on the GPUs.
    """

    target: ContextParams
    drafter: ContextParams
    n_ctx: int
    peak: int = 0
    private: int = 0
    device: int = 0
    notices: tuple[str, ...] = ()


def kept_bytes(cache_ram: int | None, params: ContextParams, machine: Machine) -> int:
    """Bytes of the caches of earlier conversations; ``cache_ram`` is in MiB.

    For one conversation at a time none are kept where it is None.
    Raises :class:`UsageError` for a negative number.
    """
    if isinstance(cache_ram, bool) or not isinstance(cache_ram, int | None) or (cache_ram or 0) < 0:
        raise UsageError(f"cache_ram is {cache_ram!r}; it must be 0 or more MiB.")
    if cache_ram is not None:
        return cache_ram * MIB
    return 0 if params.sequences == 1 else default_kept_bytes(machine)


def default_kept_bytes(machine: Machine) -> int:
    """Bytes of such caches where the user names none."""
    return _KEPT if machine.available is None else min(_KEPT, machine.available // 8)


def context_size(header: GgufHeader, params: ContextParams) -> int:
    """Tokens: the user's choice, else the model's own size, at most 8192."""
    return params.ctx_size or min(header.number("context_length") or DEFAULT_CTX, DEFAULT_CTX)


def model_parts(header: GgufHeader, *, assistant: bool = False, heads: bool = False) -> ModelParts:
    """The model of ``header``, with all parts of a split file that are there.

    ``heads``: its prediction heads are loaded, too. They are its last layers.
    """
    found = [header, *(read_header(path, model=False) for path in parts(header.path)[1:])]
    layers, last = header.number("block_count") or 0, header.number("nextn_predict_layers") or 0
    if not heads and 0 < last < layers:
        unused = tuple(f"blk.{layer}." for layer in range(layers - last, layers))
        found = [replace(p, tensors=tuple(t for t in p.tensors if not t.name.startswith(unused))) for p in found]
    return ModelParts(tuple(found), assistant)


def choose_settings(request: LoadRequest, params: ContextParams, machine: Machine) -> LoadSettings:
    """``params``, completed such that the load fits ``machine``.

    Raises :class:`UsageError` where that is impossible; the message names what would fit.
    """
    gpus = _beside_projector(chosen_gpus(machine.devices, params), request.projector)
    placed = _place_layers(request, LoadSettings(params, params, context_size(request.target.headers[0], params)), gpus)
    found = _with_sizes(request, placed, gpus, machine)
    if machine.memory is None or found.private <= machine.memory:
        return replace(found, notices=(*found.notices, *_notices(request, found, machine)))
    plain = replace(placed, target=replace(placed.target, repack=False), drafter=replace(placed.drafter, repack=False))
    plain = _with_sizes(request, plain, gpus, machine)
    if plain.private <= machine.memory:
        return replace(plain, notices=(*plain.notices, _NO_COPY))
    tokens = _largest_context(request, plain, gpus, machine)
    if params.ctx_size is not None or tokens < _LEAST_DEFAULT:
        raise UsageError(_refusal(request, plain, gpus, machine, tokens))
    short = f"The memory has room for a context of {tokens} tokens, which is what it gets. A smaller quant leaves more."
    target, drafter = (replace(settings, ctx_size=tokens) for settings in (plain.target, plain.drafter))
    found = _with_sizes(request, replace(plain, target=target, drafter=drafter, n_ctx=tokens), gpus, machine)
    return replace(found, notices=(*found.notices, short))


def _beside_projector(gpus: Sequence[Device], size: int) -> Sequence[Device]:
    """The devices with the memory that a projector leaves, which is put on the first."""
    if not gpus or not size:
        return gpus
    first = gpus[0]
    return [replace(first, memory_free=max(1, first.memory_free - size)), *gpus[1:]] if first.memory_free else gpus


def _place_layers(request: LoadRequest, found: LoadSettings, gpus: Sequence[Device]) -> LoadSettings:
    """Put as many layers on the GPUs as the user wants, else as many as fit. Raises where the user's cannot fit."""
    params, n_ctx, space = found.target, found.n_ctx, free_bytes(gpus)
    if not gpus or params.gpu_layers == 0 or space is None:
        return found
    large, small = gpu_layers(request.target, request.drafter, params, n_ctx, gpus)
    count, names = request.target.n_layers, " and ".join(device.name for device in gpus)
    if params.gpu_layers is None:
        notice = (
            f"{names} has {memory_text(space)} to spare: {large} of {count} layers of {request.target.name} fit there, "
            "and the others stay on the CPU. A smaller quant or a smaller --ctx-size would let more fit."
        )
        layers = replace(params, gpu_layers=large), replace(params, gpu_layers=small)
        return replace(found, target=layers[0], drafter=layers[1], notices=() if large == ALL else (notice,))
    need = sum(device_bytes(model, params, n_ctx, params.gpu_layers) for model in request.models)
    if need > capacity_bytes(gpus):
        wanted = "all" if params.gpu_layers < 0 else params.gpu_layers
        fitting = count if large == ALL else large
        raise UsageError(
            f"-ngl {wanted} with a context of {n_ctx} tokens needs {memory_text(need)} on {names}, which has "
            f"{memory_text(capacity_bytes(gpus))}; {fitting} of {count} layers fit (-ngl {fitting}, or leave it out)."
        )
    if need <= space:
        return found
    notice = f"{names} has {memory_text(space)} to spare and {memory_text(need)} are asked for: it may fail."
    return replace(found, notices=(notice,))


def _with_sizes(request: LoadRequest, found: LoadSettings, gpus: Sequence[Device], machine: Machine) -> LoadSettings:
    """``found`` with the memory that it takes."""
    target, drafter = request.memory(found.target, found.n_ctx, machine)
    asked = (found.target.gpu_layers, found.drafter.gpu_layers)
    layers = [ALL if n is None else n for n in asked] if gpus else [0, 0]
    extra = request.projector
    if not any(layers[: len(request.models)]):
        return replace(found, peak=peak(target, drafter) + extra, private=private(target, drafter) + extra, device=0)
    host, device = BASE, extra
    for model, offloaded, memory in zip(request.models, layers, (target, drafter), strict=False):
        assert memory is not None
        caches = model.caches(found.target, found.n_ctx)
        first = 0 if offloaded < 0 else max(0, len(caches) - offloaded)
        host += memory.vocabulary + memory.rows + sum(caches[:first])
        device += device_bytes(model, found.target, found.n_ctx, offloaded)
    if any(shares_memory(gpu) for gpu in gpus):
        return replace(found, peak=host + device, private=host + device, device=device)
    files = sum(memory.file for memory in (target, drafter) if memory)
    return replace(found, peak=host + files, private=host, device=device)


def _largest_context(request: LoadRequest, found: LoadSettings, gpus: Sequence[Device], machine: Machine) -> int:
    """Tokens of the largest context up to that of ``found`` that fits; 0 where none does."""

    def fits(steps: int) -> bool:
        sized = _with_sizes(request, replace(found, n_ctx=steps * _STEP), gpus, machine)
        return sized.private <= (machine.memory or 0)

    return largest_that_fits(found.n_ctx // _STEP, fits) * _STEP


def _refusal(request: LoadRequest, found: LoadSettings, gpus: Sequence[Device], machine: Machine, tokens: int) -> str:
    """The message for a load that does not fit. ``tokens``: the largest context that would."""
    most = machine.memory or 0
    reason = (
        f"{request.target.name} with a context of {found.n_ctx} tokens needs {memory_text(found.private)} beside its "
        f"weights, and this machine has {memory_text(most)}"
    )
    if tokens >= _SMALLEST:
        tokens = min(tokens, request.target.headers[0].number("context_length") or tokens)  # what it was trained for
        return f"{reason}; a context of {tokens} tokens fits (--ctx-size {tokens})."
    if request.drafter and _with_sizes(replace(request, drafter=None), found, gpus, machine).private <= most:
        return f"{reason}; it fits without {request.drafter.name} (-d ngram, or -d none)."
    return f"{reason}; use a smaller model."


def _notices(request: LoadRequest, found: LoadSettings, machine: Machine) -> list[str]:
    """A notice where weights will be read from the file over and over, or where other programs hold the memory."""
    if machine.memory is None or found.device:
        return []
    models = [memory for memory in request.memory(found.target, found.n_ctx, machine) if memory]
    copied = sum(memory.repacked for memory in models)
    need = found.private + max(0, sum(memory.file for memory in models) - copied)
    if need > machine.memory:
        left = max(0, machine.memory - (found.private - copied))
        return [
            f"The weights do not fit: with the cache they take {memory_text(need)} of {memory_text(machine.memory)}, "
            "and are read from the disk again and again, which is slow. "
            f"Files of together {memory_text(left)} would stay in memory."
        ]
    if machine.available is not None and found.private > machine.available:
        return [
            f"This takes {memory_text(found.private)} of memory, and {memory_text(machine.available)} is free: other "
            "programs may slow down. Close some, or set a smaller --ctx-size."
        ]
    return []
