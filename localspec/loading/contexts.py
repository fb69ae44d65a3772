"""The contexts and drafters of loaded models."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from pathlib import Path

from localspec.draft.base import Drafter
from localspec.draft.history import HistoryDrafter
from localspec.draft.model import ModelDrafter
from localspec.draft.mtp import MtpDrafter
from localspec.draft.ngram import NgramDrafter
from localspec.draft.ngram_store import NgramStore
from localspec.draft.trimmed import TrimmedContext
from localspec.generation.pair import Pair
from localspec.generation.prefill import Prefill
from localspec.llama.context import LlamaContext
from localspec.llama.model import LlamaModel
from localspec.llama.mtp import LlamaMtpContext
from localspec.llama.trimmed import LlamaTrimmedContext
from localspec.probe.contexts import LoadedModels, PairContexts


def open_contexts(models: LoadedModels, stack: ExitStack) -> PairContexts:
    """Make the contexts in which a pair generates. ``stack`` frees them.

    Where the user leaves the number of threads open, they use fewer while other programs are busy.
    """
    target = LlamaContext(models.target, models.params, models.n_ctx, hidden=models.kind == "mtp")
    stack.callback(target.close)
    drafter: LlamaContext | LlamaMtpContext | None = None
    if models.drafter is not None and models.draft_params is not None:
        if models.kind == "mtp":
            drafter = LlamaMtpContext(models.drafter, models.draft_params, target)
        elif models.trim is not None:
            inputs = models.trim.embeddings
            drafter = LlamaTrimmedContext(models.drafter, models.draft_params, models.n_ctx, inputs)
        else:
            drafter = LlamaContext(models.drafter, models.draft_params, models.n_ctx)
        stack.callback(drafter.close)
    for context in (target, drafter):
        if context is not None and models.params.threads is None:
            context.adapt_threads(True)
    return PairContexts(target, drafter)


def make_pair(models: LoadedModels, contexts: PairContexts, ngram_file: str | Path | None) -> Pair:
    """The pair of a target and its drafters, lookup first. ``ngram_file``: the user's file of earlier texts."""
    target, drafters, history = contexts.target, list[Drafter](), None
    if models.kind != "none":
        drafters.append(NgramDrafter())
        if isinstance(contexts.drafter, LlamaMtpContext):
            drafters.append(MtpDrafter(contexts.drafter))
        elif contexts.drafter is not None:
            drafters.append(_model_drafter(models, contexts.drafter))
        history = _history(ngram_file, models.target)
        drafters += [history] if history else []
    prefill = Prefill(target.pass_width, target.pass_width)
    return Pair(target, models.target.vocabulary, tuple(drafters), history, models.kind == "mtp", prefill)


def _model_drafter(models: LoadedModels, context: LlamaContext) -> ModelDrafter:
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
