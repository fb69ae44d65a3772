"""Decide what an engine may promise about its output on this machine, from probes that are remembered.

``exact``: every row comes from a pass that is proved to give the rows of plain decoding, bit for bit. ``approximate``:
some rows differ. ``off``: not probed. Where narrow passes are exact and wide ones are not, drafts stay narrow unless
the user wants longer ones. Passes of a fixed width are chosen where they are exact and cost little.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from localspec.errors import ModelFileError
from localspec.generation.passes import UNPADDED, PassShape
from localspec.gguf.header import GgufHeader
from localspec.gguf.types import FLOAT_NUMBERS
from localspec.llama.binding import build_id
from localspec.llama.context import LlamaContext
from localspec.params import PROBE_CTX, PROBE_WIDTH, ContextParams, ExactnessMode
from localspec.probe import cache
from localspec.probe.batch_invariance import TEXT, Findings, Invariance, probe
from localspec.probe.fixed_width import DEAREST, PaddedFindings, probe_padded
from localspec.types import Exactness, difference_text

#: Kinds of the remembered facts. The number grows when they mean something else.
_KIND, _PADDED_KIND = "rows-6", "padded-2"
#: Narrowest passes that are worth drafting in, in tokens.
_ENOUGH = 3


@dataclass(frozen=True)
class Wish:
    """Requirements of the user for a pair.

    ``draft_max``: the longest draft, None if left open. ``pass_width``: the fixed width of passes, 1 for passes of any
    width, None if left open. ``drafts``: there is a drafter.
    """

    exactness: ExactnessMode = "prefer"
    draft_max: int | None = None
    pass_width: int | None = None
    drafts: bool = True

    @property
    def widest(self) -> int:
        """Most tokens of an unpadded pass that are probed."""
        return max(PROBE_WIDTH, (self.draft_max or 0) + 1)

    @property
    def fixed(self) -> int | None:
        """The width of padded passes that the user wants."""
        return self.pass_width if self.pass_width not in (None, 1) else None

    def narrow(self, found: Invariance) -> bool:
        """True if drafts stay as narrow as unpadded passes are exact."""
        if self.exactness == "require":
            return found.width > 1
        return found.width >= _ENOUGH and (self.draft_max is None or self.draft_max < found.width)

    def dearest(self, found: Invariance) -> float:
        """Most that plain decoding in padded passes may cost, in passes over one token."""
        return math.inf if self.exactness == "require" and not self.narrow(found) else DEAREST


@dataclass(frozen=True)
class ExactnessVerdict:
    """The promise of a generation with a drafter, the passes that keep it, and a notice for the user.

    ``difference``: see :class:`localspec.generation.pair.Setup`. ``chunk``: see
    :class:`localspec.probe.batch_invariance.Invariance`. ``drafts``: False as long as no width is proved that is worth
    drafting in.
    """

    exactness: Exactness
    passes: PassShape = UNPADDED
    difference: float = 0.0
    notice: str | None = None
    chunk: int = 1
    drafts: bool = True


@dataclass(frozen=True)
class Known:
    """Comparisons of a target that were made so far, by this and earlier runs."""

    rows: Findings
    padded: PaddedFindings

    @classmethod
    def recall(cls, context: LlamaContext) -> Known:
        """Recall what earlier runs found for the files of this layout, with this build and these settings."""
        key = _key(context)
        rows = Findings.from_dict(cache.recall(_KIND, key))
        return cls(rows or Findings(), PaddedFindings.from_dict(cache.recall(_PADDED_KIND, key)) or PaddedFindings())

    def compared(self, context: LlamaContext, wish: Wish) -> bool:
        """True if no rows are left to compare."""
        if self.rows.pending(wish.widest, PROBE_CTX):
            return False
        if wish.fixed is not None:
            return wish.fixed in self.padded.differences
        dearest = self._dearest(context, wish)
        return dearest is None or self.padded.pending(dearest, context.rollback + 1) is None

    @property
    def reuse(self) -> bool:
        """True if it is known how much of a cached prefix can be reused."""
        return self.rows.chunk is not None

    def compare(self, context: LlamaContext, wish: Wish, step: Callable[[], None] = lambda: None) -> None:
        """Make the comparisons of rows that are missing, and remember each; ``step`` is called after it."""
        key, text = _key(context), context.model.vocabulary.tokenize(TEXT, add_special=False)

        def remember(found: Findings | PaddedFindings) -> None:
            cache.remember(_KIND if isinstance(found, Findings) else _PADDED_KIND, key, found.to_dict())
            step()

        if wish.fixed is not None:  # drafting begins when that one is proved
            probe_padded(context, text, self.padded, only=wish.fixed, checkpoint=remember)
        if self.rows.pending(wish.widest, PROBE_CTX):
            probe(context, text, wish.widest, self.rows, remember, chunk=False)
        if wish.fixed is None and (dearest := self._dearest(context, wish)) is not None:
            probe_padded(context, text, self.padded, dearest=dearest, checkpoint=remember)

    def compare_cells(self, context: LlamaContext, wish: Wish) -> None:
        """Find how much of a cached prefix can be reused, and remember it. The rows are compared before."""
        text = context.model.vocabulary.tokenize(TEXT, add_special=False)
        probe(context, text, wish.widest, self.rows)
        cache.remember(_KIND, _key(context), self.rows.to_dict())

    def _dearest(self, context: LlamaContext, wish: Wish) -> float | None:
        """See :meth:`Wish.dearest`; None where no padded passes are wanted."""
        found = known_invariance(context, self.rows, wish.widest)
        return None if wish.pass_width == 1 or found.exact else wish.dearest(found)


#: The verdict where the user does not want a probe.
OFF = ExactnessVerdict("off")


def settings_to_try(wish: ExactnessMode, params: ContextParams) -> list[ContextParams]:
    """Settings to load with, in turn. Kernels that are exact for every type are slow, so only ``require`` has them."""
    if wish != "require":
        return [params]
    slower = replace(params, tiled=False)
    return [slower, replace(slower, repack=False)] if params.repack else [slower]


def proves(context: LlamaContext, wish: Wish, *, last: bool) -> bool:
    """Compare what is not known yet; True if passes are exact with the settings of ``context``.

    Narrow passes, and passes of a width that the user did not ask for, are left to the ``last`` settings. Raises
    :class:`ModelFileError` where those are not exact either.
    """
    wish = wish if last or wish.fixed else replace(wish, pass_width=1)
    known = Known.recall(context)
    if not known.compared(context, wish):
        known.compare(context, wish)
    if not known.reuse:
        known.compare_cells(context, wish)
    if wish.fixed:
        exact = known.padded.differences[wish.fixed] == 0.0
    else:
        exact = known_invariance(context, known.rows, wish.widest).exact
    return exact or (last and verdict_so_far(context, known, wish) is not None)


def verdict_so_far(context: LlamaContext, known: Known, wish: Wish) -> ExactnessVerdict:
    """The verdict on comparisons that may not be complete: only proved passes are drafted in.

    Raises :class:`ModelFileError` where exactness is required and cannot be had.
    """
    if wish.exactness == "off":
        return OFF if wish.drafts else ExactnessVerdict("exact")
    found = known_invariance(context, known.rows, wish.widest)
    verdict = _fixed(known.padded, wish) if wish.fixed else _free(found, known, wish)
    if wish.exactness == "require" and wish.drafts and verdict.exactness == "approximate":
        raise ModelFileError(
            f"{context.model.path.name} cannot be drafted for exactly: on this machine logits of a draft's pass differ "
            f"{difference_text(verdict.difference)}. Make a file whose rows are exact with `localspec quantize IN OUT "
            "--exact`, or use --exactness prefer, or -d none."
        )
    return replace(verdict if wish.drafts else verdict_without_drafter(verdict), chunk=found.chunk)


def verdict_without_drafter(verdict: ExactnessVerdict) -> ExactnessVerdict:
    """The same passes without drafts: those of plain decoding."""
    return ExactnessVerdict("exact", verdict.passes)


def _fixed(padded: PaddedFindings, wish: Wish) -> ExactnessVerdict:
    """The verdict on passes of the width that the user wants."""
    assert wish.fixed is not None
    shape, difference = PassShape.fixed(wish.fixed), padded.differences.get(wish.fixed)
    if difference is None:
        return ExactnessVerdict("exact", shape, drafts=False)
    return ExactnessVerdict("approximate" if difference else "exact", shape, difference)


def _free(found: Invariance, known: Known, wish: Wish) -> ExactnessVerdict:
    """The verdict where the width of passes is left open: the exact passes that are worth most, else all."""
    if known.rows.pending(wish.widest, PROBE_CTX):
        if found.width >= _ENOUGH:
            return ExactnessVerdict("exact", PassShape(found.width))
        return ExactnessVerdict("exact", PassShape(1), drafts=False)
    if found.exact:
        return ExactnessVerdict("exact", PassShape(found.probed))
    narrow, dearest = wish.narrow(found), wish.dearest(found)
    width = known.padded.choice(dearest) if wish.pass_width is None else None
    if width is not None and not (narrow and known.padded.best_up_to(found.width) >= known.padded.worth(width)):
        cost = known.padded.costs[width]
        notice = f"Passes are padded to {width} rows, which is exact here: plain decoding takes {cost:.2f}× the time."
        return ExactnessVerdict("exact", PassShape.fixed(width), notice=notice)
    if narrow:
        notice = f"Passes over more than {found.width} tokens are not exact here: drafting at most {found.width - 1}."
        return ExactnessVerdict("exact", PassShape(found.width), notice=notice)
    return ExactnessVerdict("approximate", PassShape(found.probed), found.difference)


def known_invariance(context: LlamaContext, findings: Findings, widest: int) -> Invariance:
    """The result of a probe, as far as it has come.

    A probe can miss rows that differ only now and then, so unpadded passes of a file with a float matrix are not exact.
    """
    found = findings.invariance(widest, PROBE_CTX, context.pass_width)
    if not has_float_matrix(context.model.header):
        return found
    if findings.pending(widest, PROBE_CTX):
        return replace(found, width=1, probed=1)
    return Invariance(1, widest, found.difference, context.pass_width)


def _key(context: LlamaContext) -> str:
    """Key of the remembered comparisons: all that determines the kernels, so that files of one layout share them."""
    return f"{context.model.header.layout} {build_id()} {context.settings()}"


def has_float_matrix(header: GgufHeader) -> bool:
    """True if a matrix that rows are multiplied with has a float type.

    llama-quantize leaves Gemma's ``per_layer_model_proj`` and the routers of experts in float.
    """
    return any(tensor.type in FLOAT_NUMBERS for tensor in header.multiplied)
