"""The contexts and drafters of loaded models."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from localspec.draft.base import Drafter
from localspec.draft.heads import HeadDrafter
from localspec.draft.history import HistoryDrafter
from localspec.draft.late import LateDrafter
from localspec.draft.model import ModelDrafter
from localspec.draft.mtp import MtpDrafter
from localspec.draft.ngram import NgramDrafter
from localspec.draft.ngram_store import NgramStore
from localspec.draft.trimmed import TrimmedContext
from localspec.generation.kept import KeptCaches
from localspec.generation.pair import Pair
from localspec.generation.prefill import Prefill
from localspec.generation.scheduler import Scheduler
from localspec.llama.context import LlamaContext
from localspec.llama.heads import LlamaHeadContext
from localspec.llama.model import LlamaModel
from localspec.llama.mtp import LlamaMtpContext
from localspec.llama.sequences import LlamaSequences
from localspec.llama.trimmed import LlamaTrimmedContext
from localspec.loading.media import make_reader
from localspec.probe.contexts import DrafterContext, LoadedModels, PairContexts


def open_contexts(models: LoadedModels, stack: ExitStack) -> list[PairContexts]:
    """Make the contexts in which a pair generates, for each of its sequences. ``stack`` frees them.

    Where the user leaves the number of threads open, they use fewer while other programs are busy.
    """
    n = models.params.sequences
    hidden, rows = models.kind == "mtp", models.kind == "heads"
    target = LlamaContext(
        models.target, models.params, models.n_ctx,
        hidden=hidden, keeps_rows=rows, input_layers=models.input_layers, sequences=n,
    )  # fmt: skip
    stack.callback(target.close)
    if models.params.threads is None:
        target.adapt_threads(True)
    drafter = open_drafter(models, target)
    if drafter is not None:
        stack.callback(drafter.close)
    targets = [target.neighbour(i) for i in range(1, models.params.sequences)]
    beside = [PairContexts(other, _beside(drafter, other)) for other in targets]
    return [PairContexts(target, drafter), *beside]


def open_drafter(models: LoadedModels, target: LlamaContext) -> DrafterContext | None:
    """Make the context of a drafter that decodes, for the first sequence; ``target`` is that of its target."""
    if models.drafter is None or models.draft_params is None:
        return None
    context: DrafterContext
    if models.kind == "mtp":
        context = LlamaMtpContext(models.drafter, models.draft_params, target)
    elif models.kind == "heads":
        context = LlamaHeadContext(models.drafter, models.draft_params, target)
    elif models.trim is not None:
        inputs, n = models.trim.embeddings, models.params.sequences
        context = LlamaTrimmedContext(models.drafter, models.draft_params, models.n_ctx, inputs, n)
    else:
        context = LlamaContext(models.drafter, models.draft_params, models.n_ctx, sequences=models.params.sequences)
    if models.params.threads is None:
        context.adapt_threads(True)
    return context


def _beside(drafter: DrafterContext | None, target: LlamaContext) -> DrafterContext | None:
    """The drafter's context for another sequence, that of ``target``."""
    if drafter is None or isinstance(drafter, LlamaHeadContext):
        return drafter and drafter.neighbour(target)
    return drafter.neighbour(target.sequence)


def make_pairs(
    models: LoadedModels,
    contexts: Sequence[PairContexts],
    ngram_file: str | Path | None,
    kept: int,
    image_tokens: tuple[int, int] | None = None,
    late: Sequence[LateDrafter] = (),
) -> tuple[Pair, Scheduler | None]:
    """The first target with its drafters, lookup first, and the scheduler of several.

    ``kept``: bytes of the caches of earlier conversations. ``image_tokens``: fewest and most cells of a picture.
    ``late``: drafters that wait for their model, one for each sequence, or none.
    """
    history = _history(ngram_file, models.target) if models.kind != "none" else None
    reader = make_reader(models, contexts[0].target, image_tokens)
    waiting = late or (None,) * len(contexts)
    pairs = [
        replace(_make_pair(models, one, history, drafter), reader=reader)
        for one, drafter in zip(contexts, waiting, strict=True)
    ]
    if len(pairs) == 1:
        return pairs[0], None
    sequences = LlamaSequences([one.target for one in contexts])
    return pairs[0], Scheduler(sequences, pairs, KeptCaches(kept))


def _make_pair(
    models: LoadedModels, contexts: PairContexts, history: HistoryDrafter | None, late: LateDrafter | None
) -> Pair:
    target, drafters = contexts.target, list[Drafter]()
    if models.kind != "none":
        drafters.append(NgramDrafter())
        if isinstance(contexts.drafter, LlamaMtpContext):
            drafters.append(MtpDrafter(contexts.drafter))
        elif isinstance(contexts.drafter, LlamaHeadContext):
            drafters.append(HeadDrafter(contexts.drafter))
        elif contexts.drafter is not None:
            drafters.append(model_drafter(models, contexts.drafter))
        drafters += [late] if late else []
        drafters += [history] if history else []
    prefill = Prefill(target.pass_width, target.pass_width)
    return Pair(target, models.target.vocabulary, tuple(drafters), history, models.kind == "mtp", prefill)


def model_drafter(models: LoadedModels, context: LlamaContext) -> ModelDrafter:
    """The drafter that drafts with the ``context`` of a draft model."""
    trim, batch = models.trim, context.batch
    if trim is None:
        return ModelDrafter(context, batch, min(models.target.n_vocab, context.model.n_vocab))
    whole = TrimmedContext(context, trim.ids, trim.vocab_size, trim.head.values, trim.softcap)
    return ModelDrafter(whole, batch, min(models.target.n_vocab, trim.vocab_size))


def _history(path: str | Path | None, model: LlamaModel) -> HistoryDrafter | None:
    """Lookup in the user's file of earlier texts, if there is one. The file is bound to the model's vocabulary."""
    if path is None:
        return None
    vocabulary = model.vocabulary
    texts = "\0".join(repr(vocabulary.raw_text(token)) for token in range(vocabulary.n_tokens))
    identity = hashlib.sha256(texts.encode()).hexdigest()
    return HistoryDrafter(NgramStore.open(path, identity, vocabulary_size=vocabulary.n_tokens))
