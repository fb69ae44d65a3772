"""Contexts to measure a pair in: small ones of the same models, so that the cache of a conversation stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from numpy.typing import NDArray

from localspec.gguf.header import GgufHeader
from localspec.llama.abort import AbortedError
from localspec.llama.context import LlamaContext
from localspec.llama.heads import LlamaHeadContext
from localspec.llama.model import LlamaModel
from localspec.llama.mtp import LlamaMtpContext
from localspec.llama.trim_file import Trim
from localspec.llama.trimmed import LlamaTrimmedContext
from localspec.models.eagle import read_layers
from localspec.params import PROBE_CTX, ContextParams
from localspec.probe.gaps import Gate
from localspec.protocols import Outputs, Rows

#: Most times that requests end a pass. Without a limit a measurement would never end where gaps are short.
_ENDED = 4


@dataclass(frozen=True)
class LoadedModels:
    """Models of a pair and their settings. ``kind`` of drafter: ``none``, ``ngram``, ``mtp``, ``heads`` or ``model``.

    ``drafter`` is the target itself where that has the heads.
    ``n_ctx``: tokens of the contexts in which they generate. ``trim``: what a trimmed drafter's file adds.
    ``projector``: the target's, which is loaded later.
    """

    target: LlamaModel
    params: ContextParams
    n_ctx: int
    kind: str = "none"
    drafter: LlamaModel | None = None
    draft_params: ContextParams | None = None
    trim: Trim | None = None
    projector: GgufHeader | None = None
    notices: tuple[str, ...] = ()

    @property
    def input_layers(self) -> tuple[int, ...]:
        """Layers of the target whose inputs an EAGLE-3 head reads."""
        return read_layers(self.drafter.header if self.drafter else None)


DrafterContext = LlamaContext | LlamaMtpContext | LlamaHeadContext


@dataclass(frozen=True)
class PairContexts:
    """A target's context, and its drafter's if that decodes."""

    target: LlamaContext
    drafter: DrafterContext | None


def open_probe_contexts(models: LoadedModels, gate: Gate, stack: ExitStack) -> PairContexts:
    """Make small contexts whose passes go through ``gate``, and end for a request where the CPU computes them.

    Raises :class:`BackendError` without enough memory.
    """
    with gate.one_pass():
        params = replace(models.params, media_cells=0)
        hidden, rows = models.kind == "mtp", models.kind == "heads"
        layers = models.input_layers
        target = _GatedContext(models.target, params, PROBE_CTX, hidden=hidden, keeps_rows=rows, input_layers=layers)
        target.gate = gate
        stack.callback(target.close)
        drafter = _open_drafter(models, target)
        if drafter is not None:
            drafter.gate = gate
            stack.callback(drafter.close)
        for context in (target, drafter):
            if isinstance(context, LlamaContext) and _may_end(context.model):
                gate.abort.install(context.handle)
    return PairContexts(target, drafter)


def _may_end(model: LlamaModel) -> bool:
    """True if passes can be ended: not those of other machines and GPUs, nor what changes a recurrent state."""
    return model.remote is None and not model.placement.gpu and model.can_rewind


def _make_pass(context: LlamaContext, gate: Gate, decode: Callable[[], Rows]) -> Rows:
    """Make a pass at the ``gate``, and again if a request has ended it; after some times it is made to its end."""
    start = len(context.tokens)
    for _ in range(_ENDED):
        with suppress(AbortedError), gate.one_pass():
            return decode()
        context.rewind(start)
    with gate.one_pass(ends=False):
        return decode()


class _GatedContext(LlamaContext):
    gate: Gate

    def decode(self, tokens: Sequence[int], outputs: Outputs = "all") -> Rows:
        return _make_pass(self, self.gate, partial(super().decode, tokens, outputs))


class _GatedTrimmedContext(LlamaTrimmedContext):
    gate: Gate

    def decode(self, tokens: Sequence[int], outputs: Outputs = "all") -> Rows:
        return _make_pass(self, self.gate, partial(super().decode, tokens, outputs))


class _GatedMtpContext(LlamaMtpContext):
    gate: Gate

    def step(self, token: int, position: int, hidden: NDArray[Any]) -> Rows:
        with self.gate.one_pass():
            return super().step(token, position, hidden)


class _GatedHeadContext(LlamaHeadContext):
    gate: Gate

    def read(self, tokens: Sequence[int], start: int, *, goes_on: bool = True) -> Rows:
        with self.gate.one_pass():
            return super().read(tokens, start, goes_on=goes_on)

    def step(self, tokens: Sequence[int], hidden: Rows) -> Rows:
        with self.gate.one_pass():
            return super().step(tokens, hidden)


def _open_drafter(
    models: LoadedModels, target: LlamaContext
) -> _GatedContext | _GatedTrimmedContext | _GatedMtpContext | _GatedHeadContext | None:
    if models.drafter is None or models.draft_params is None:
        return None
    if models.kind == "mtp":
        return _GatedMtpContext(models.drafter, models.draft_params, target)
    if models.kind == "heads":
        return _GatedHeadContext(models.drafter, models.draft_params, target)
    if models.trim is not None:
        return _GatedTrimmedContext(models.drafter, models.draft_params, PROBE_CTX, models.trim.embeddings)
    return _GatedContext(models.drafter, models.draft_params, PROBE_CTX)
