"""How sure the same output is on this machine: the probe's verdict, remembered, and what follows from it.

``exact``: every batch that is used gives the rows of single decodes, bit for bit. ``guarded``: some do not, and
choices closer than the difference are made by a row of their own. ``off``: not looked at. Where narrow batches are
exact and wide ones are not, drafts stay narrow unless the user asks for longer ones: a guard cannot undo what wide
batches leave in the cache.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from localspec.errors import ModelFileError
from localspec.files import file_identity
from localspec.generation.guard import NO_GUARD, Guard
from localspec.gguf.header import GgufHeader
from localspec.llama.binding import build_id
from localspec.llama.context import LlamaContext
from localspec.params import MAX_VERIFY_WIDTH, PROBE_WIDTH, ContextParams, ExactnessMode
from localspec.probe import cache
from localspec.probe.batch_invariance import TEXT, Invariance, probe
from localspec.types import Exactness

_KIND = "rows-3"  # of remembered facts
#: Batches of so many tokens are wide enough to draft in.
_ENOUGH = 3
_FLOATS = (0, 1, 30)  # ggml's F32, F16 and BF16


@dataclass(frozen=True)
class Assurance:
    """What a generation with a drafter may claim, and the guard that makes it so."""

    exactness: Exactness
    guard: Guard = NO_GUARD
    notice: str | None = None


def attempts(wish: ExactnessMode, params: ContextParams) -> list[ContextParams]:
    """The settings to try in turn. Kernels that are exact for every type cost speed, so only ``require`` has them."""
    if wish != "require":
        return [params]
    return [replace(params, tiled=False), replace(params, tiled=False, repack=False)]


def assure(context: LlamaContext, wish: ExactnessMode, draft_max: int | None, *, last: bool) -> Assurance | None:
    """Probe, or recall the probe of, a loaded target. ``draft_max``: the longest drafts that the user asks for, if so.

    None: ``wish`` asks for more than these settings give, and they are not the ``last`` to try.
    Raises :class:`ModelFileError` where no setting gives it.
    """
    if wish == "off":
        return Assurance("off", Guard(widest=MAX_VERIFY_WIDTH))
    found = invariance(context, max(PROBE_WIDTH, (draft_max or 0) + 1))
    if found.exact:
        return Assurance("exact", Guard(found.width, widest=found.probed))
    narrow = found.width >= _ENOUGH and (draft_max is None or draft_max < found.width)
    if wish == "prefer" and not narrow:
        return Assurance("guarded", Guard(found.width, found.noise, found.greedy_noise, found.probed))
    if not last:
        return None
    if found.width == 1:
        raise ModelFileError(
            f"{context.model.path.name} cannot be drafted for exactly: on this machine rows of a batch may differ from "
            f"single rows by {found.noise:.2g}. Make a file whose rows are exact with `localspec quantize IN OUT "
            "--exact`, or use --exactness prefer, or -d none."
        )
    return Assurance(
        "exact",
        Guard(found.width, widest=found.width),
        f"Batches of more than {found.width} tokens are not exact here: drafting at most {found.width - 1}.",
    )


def invariance(context: LlamaContext, widest: int = PROBE_WIDTH) -> Invariance:
    """The verdict on this file with this build and these settings; a few seconds the first time.

    A probe can miss rows that differ only now and then, so a file with matrices that do so is never exact.
    """
    noise = hidden_noise(context.model.header)
    found = _probed(context, widest)
    return found if noise == 0.0 else Invariance(1, widest, max(noise, found.noise), max(noise, found.greedy_noise))


def hidden_noise(header: GgufHeader) -> float:
    """How far a matrix in a float type moves logits where it does, about thrice what was seen; 0 if there is none.

    llama-quantize leaves Gemma's ``per_layer_model_proj`` (0.033 logits seen) and the routers of experts (0.46, when
    another expert is chosen) in float.
    """
    floats = (tensor.name for tensor in header.multiplied if tensor.type in _FLOATS)
    return max((1.4 if "ffn_gate_inp" in name else 0.1 for name in floats), default=0.0)


def _probed(context: LlamaContext, widest: int) -> Invariance:
    path = context.model.path
    try:
        key = f"{file_identity(path)} {build_id()} {context.settings()} widest={widest}"
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror or error}.") from error
    known = Invariance.of(cache.recall(_KIND, key))
    if known is None:
        known = probe(context, context.model.vocabulary.tokenize(TEXT, add_special=False), widest)
        cache.remember(_KIND, key, known.record())
    return known
