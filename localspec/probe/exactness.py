"""Decide what an engine may promise about its output on this machine, from a probe that is remembered.

``exact``: every pass in use gives the rows of single-token passes, bit for bit. ``guarded``: some do not, and choices
closer than the difference are made by single-token passes. ``off``: not probed. Where narrow passes are exact and wide
ones are not, drafts stay narrow unless the user wants longer ones, because a guard cannot undo the cells that wide
passes leave in the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from localspec.errors import ModelFileError
from localspec.generation.guard import NO_GUARD, Guard
from localspec.gguf.header import GgufHeader
from localspec.gguf.types import FLOAT_NUMBERS
from localspec.llama.binding import build_id
from localspec.llama.context import LlamaContext
from localspec.params import MAX_VERIFY_WIDTH, PROBE_WIDTH, ContextParams, ExactnessMode
from localspec.probe import cache
from localspec.probe.batch_invariance import TEXT, Findings, Invariance, probe
from localspec.types import Exactness

#: Kind of the remembered facts. The number grows when they mean something else.
_KIND = "rows-5"
#: Tokens of a context that is made for measuring: enough for the long cache of the probes.
PROBE_CTX = 704
#: Narrowest passes that are worth drafting in, in tokens.
_ENOUGH = 3
#: Noise of a float matrix, and of a router of experts (where another expert may be chosen), in logits. About three
#: times what was seen: 0.033 with Gemma's ``per_layer_model_proj``, 0.46 with routers.
_FLOAT_NOISE, _ROUTER_NOISE = 0.1, 1.4


@dataclass(frozen=True)
class ExactnessVerdict:
    """The promise of a generation with a drafter, the guard that keeps it, and a notice for the user.

    ``chunk``: see :class:`localspec.probe.batch_invariance.Invariance`; it holds without a drafter too. ``drafts``:
    False as long as no width is proved that is worth drafting in.
    """

    exactness: Exactness
    guard: Guard = NO_GUARD
    notice: str | None = None
    chunk: int = 1
    drafts: bool = True


#: The verdict where the user does not want a probe.
OFF = ExactnessVerdict("off", Guard(widest=MAX_VERIFY_WIDTH))


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
        return OFF
    return _decide(invariance(context, widest_pass(draft_max)), context.model.path.name, wish, draft_max, last=last)


def verdict_so_far(
    context: LlamaContext, findings: Findings, wish: ExactnessMode, draft_max: int | None
) -> ExactnessVerdict:
    """The verdict on a probe that may not be complete: only proved widths are drafted in.

    Raises :class:`ModelFileError` as :func:`decide_exactness` does.
    """
    widest = widest_pass(draft_max)
    found = known_invariance(context, findings, widest)
    if not findings.pending(widest, PROBE_CTX):
        verdict = _decide(found, context.model.path.name, wish, draft_max, last=True)
        assert verdict is not None  # there are no other settings to try
        return verdict
    if found.width >= _ENOUGH:
        return ExactnessVerdict("exact", Guard(found.width, widest=found.width), chunk=found.chunk)
    return ExactnessVerdict("exact", Guard(widest=1), chunk=found.chunk, drafts=False)


def widest_pass(draft_max: int | None) -> int:
    """Most tokens of a pass that are probed."""
    return max(PROBE_WIDTH, (draft_max or 0) + 1)


def _decide(
    found: Invariance, name: str, wish: ExactnessMode, draft_max: int | None, *, last: bool
) -> ExactnessVerdict | None:
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
            f"{name} cannot be drafted for exactly: on this machine rows of a batch may differ from "
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
    """The probe of files with this layout, with this build and these settings; a few seconds the first time.

    It goes on with the comparisons that earlier runs have made. A probe can miss rows that differ only now and then, so
    a file with a float matrix is never exact.
    """
    findings = recall_findings(context) or Findings()
    if not findings.complete(widest, context.n_ctx):
        continue_probe(context, findings, widest)
    return known_invariance(context, findings, widest, context.n_ctx)


def continue_probe(
    context: LlamaContext, findings: Findings, widest: int, step: Callable[[], None] = lambda: None
) -> None:
    """Make the comparisons that ``findings`` lack, and remember each; ``step`` is called after it."""
    key = _key(context)

    def checkpoint(found: Findings) -> None:
        cache.remember(_KIND, key, found.to_dict())
        step()

    probe(context, context.model.vocabulary.tokenize(TEXT, add_special=False), widest, findings, checkpoint)


def recall_findings(context: LlamaContext) -> Findings | None:
    """The comparisons made by earlier runs, None if there are none."""
    return Findings.from_dict(cache.recall(_KIND, _key(context)))


def known_invariance(context: LlamaContext, findings: Findings, widest: int, n_ctx: int = PROBE_CTX) -> Invariance:
    """The result of a probe in a context of ``n_ctx`` tokens, as far as it has come; float matrices are not exact."""
    found, noise = findings.invariance(widest, n_ctx, context.pass_width), float_noise(context.model.header)
    if noise == 0.0 or findings.pending(widest, n_ctx):
        return found if noise == 0.0 else replace(found, width=1, probed=1)
    return Invariance(1, widest, max(noise, found.noise), max(noise, found.greedy_noise), context.pass_width)


def _key(context: LlamaContext) -> str:
    """Key of the remembered comparisons: all that determines the kernels, so that files of one layout share them."""
    return f"{context.model.header.layout} {build_id()} {context.settings()}"


def float_noise(header: GgufHeader) -> float:
    """Noise of the matrices in a float type, in logits; 0 if there is none.

    llama-quantize leaves Gemma's ``per_layer_model_proj`` and the routers of experts in float.
    """
    floats = (tensor.name for tensor in header.multiplied if tensor.type in FLOAT_NUMBERS)
    return max((_ROUTER_NOISE if "ffn_gate_inp" in name else _FLOAT_NOISE for name in floats), default=0.0)
