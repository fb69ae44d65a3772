"""Decide what an engine may promise about its output on this machine, from a probe that is remembered.

``exact``: every pass in use gives the rows of single-token passes, bit for bit. ``guarded``: some do not, and choices
closer than the difference are made by single-token passes. ``off``: not probed. Where narrow passes are exact and wide
ones are not, drafts stay narrow unless the user wants longer ones, because a guard cannot undo the cells that wide
passes leave in the cache.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from localspec.errors import ModelFileError
from localspec.files import file_identity
from localspec.generation.guard import NO_GUARD, Guard
from localspec.gguf.header import GgufHeader
from localspec.gguf.types import FLOAT_NUMBERS
from localspec.llama.binding import build_id
from localspec.llama.context import LlamaContext
from localspec.params import MAX_VERIFY_WIDTH, PROBE_WIDTH, ContextParams, ExactnessMode
from localspec.probe import cache
from localspec.probe.batch_invariance import TEXT, Invariance, probe
from localspec.types import Exactness

#: Kind of the remembered facts. The number grows when they mean something else.
_KIND = "rows-4"
#: Narrowest passes that are worth drafting in, in tokens.
_ENOUGH = 3
#: Noise of a float matrix, and of a router of experts (where another expert may be chosen), in logits. About three
#: times what was seen: 0.033 with Gemma's ``per_layer_model_proj``, 0.46 with routers.
_FLOAT_NOISE, _ROUTER_NOISE = 0.1, 1.4


@dataclass(frozen=True)
class ExactnessVerdict:
    """The promise of a generation with a drafter, the guard that keeps it, and a notice for the user.

    ``chunk``: see :class:`localspec.probe.batch_invariance.Invariance`; it holds without a drafter too.
    """

    exactness: Exactness
    guard: Guard = NO_GUARD
    notice: str | None = None
    chunk: int = 1


def settings_to_try(wish: ExactnessMode, params: ContextParams) -> list[ContextParams]:
    """Settings to load with, in turn. Kernels that are exact for every type are slow, so only ``require`` has them."""
    if wish != "require":
        return [params]
    return [replace(params, tiled=False), replace(params, tiled=False, repack=False)]


def decide_exactness(
    context: LlamaContext, wish: ExactnessMode, draft_max: int | None, *, last: bool
) -> ExactnessVerdict | None:
    """Probe a loaded target, or recall its probe. ``draft_max``: the user's longest draft, None if left open.

    None: these settings give less than ``wish``, and they are not the ``last`` to try.
    Raises :class:`ModelFileError` where no settings give it.
    """
    if wish == "off":
        return ExactnessVerdict("off", Guard(widest=MAX_VERIFY_WIDTH))
    found = invariance(context, max(PROBE_WIDTH, (draft_max or 0) + 1))
    if found.exact:
        return ExactnessVerdict("exact", Guard(found.width, widest=found.probed), chunk=found.chunk)
    narrow = found.width >= _ENOUGH and (draft_max is None or draft_max < found.width)
    if wish == "prefer" and not narrow:
        guard = Guard(found.width, found.noise, found.greedy_noise, found.probed)
        return ExactnessVerdict("guarded", guard, chunk=found.chunk)
    if not last:
        return None
    if found.width == 1:
        raise ModelFileError(
            f"{context.model.path.name} cannot be drafted for exactly: on this machine rows of a batch may differ from "
            f"single rows by {found.noise:.2g}. Make a file whose rows are exact with `localspec quantize IN OUT "
            "--exact`, or use --exactness prefer, or -d none."
        )
    notice = f"Batches of more than {found.width} tokens are not exact here: drafting at most {found.width - 1}."
    return ExactnessVerdict("exact", Guard(found.width, widest=found.width), notice, found.chunk)


def decide_without_drafter(context: LlamaContext, wish: ExactnessMode) -> ExactnessVerdict:
    """The verdict where every generated row comes from a single-token pass. It may still depend on prefilled cells."""
    if wish == "off" or not context.model.can_rewind:
        return ExactnessVerdict("exact")
    return ExactnessVerdict("exact", chunk=invariance(context).chunk)


def invariance(context: LlamaContext, widest: int = PROBE_WIDTH) -> Invariance:
    """The probe of this file with this build and these settings; a few seconds the first time.

    A probe can miss rows that differ only now and then, so a file with a float matrix is never exact.
    """
    noise = float_noise(context.model.header)
    found = _probed(context, widest)
    if noise == 0.0:
        return found
    return Invariance(1, widest, max(noise, found.noise), max(noise, found.greedy_noise), context.pass_width)


def float_noise(header: GgufHeader) -> float:
    """Noise of the matrices in a float type, in logits; 0 if there is none.

    llama-quantize leaves Gemma's ``per_layer_model_proj`` and the routers of experts in float.
    """
    floats = (tensor.name for tensor in header.multiplied if tensor.type in FLOAT_NUMBERS)
    return max((_ROUTER_NOISE if "ffn_gate_inp" in name else _FLOAT_NOISE for name in floats), default=0.0)


def _probed(context: LlamaContext, widest: int) -> Invariance:
    path = context.model.path
    try:
        key = f"{file_identity(path)} {build_id()} {context.settings()} widest={widest}"
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror or error}.") from error
    known = Invariance.from_dict(cache.recall(_KIND, key))
    if known is None:
        known = probe(context, context.model.vocabulary.tokenize(TEXT, add_special=False), widest)
        cache.remember(_KIND, key, known.to_dict())
    return known
