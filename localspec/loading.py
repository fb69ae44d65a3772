"""Builds an :class:`Engine` from names: files, checks, models, contexts, drafters. Checks come before llama.cpp."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from localspec.chat.template import ChatTemplate
from localspec.control.controller import Controller
from localspec.draft.base import Drafter
from localspec.draft.history import HistoryDrafter
from localspec.draft.model import ModelDrafter
from localspec.draft.mtp import MtpDrafter
from localspec.draft.ngram import NgramDrafter
from localspec.draft.ngram_store import NgramStore
from localspec.draft.trimmed import TrimmedContext
from localspec.engine import Engine, ModelInfo
from localspec.errors import DraftMismatchError, ModelFileError, UsageError
from localspec.generation.pair import Pair, Setup
from localspec.gguf.header import GgufHeader, is_trimmed, read_header
from localspec.llama.context import LlamaContext
from localspec.llama.model import LlamaModel
from localspec.llama.mtp import LlamaMtpContext
from localspec.llama.trim_file import Trim, read_trim
from localspec.llama.trimmed import LlamaTrimmedContext
from localspec.memory.fit import DEFAULT_CTX, LoadRequest, choose_settings
from localspec.memory.machine import read_machine
from localspec.models.pairing import check_assistant, find_drafter, is_assistant
from localspec.models.resolve import resolve_model
from localspec.models.store import used
from localspec.params import ContextParams, DraftParams, Wish
from localspec.probe.costs import Meter
from localspec.probe.exactness import Assurance, assure, attempts
from localspec.probe.load_test import try_files
from localspec.protocols import Context

#: llama.cpp's rule for a separate drafter: sizes may differ by padding, the first few tokens by special ones.
_MAX_VOCAB_DIFFERENCE, _FIRST_COMPARED = 128, 5


def load(
    target: str | Path = "tiny",
    draft: str | Path | None = "auto",
    *,
    ctx_size: int | None = None,
    threads: int | None = None,
    gpu_layers: int | None = None,
    device: str | None = None,
    draft_max: int | None = None,
    exactness: Wish = "prefer",
    ngram_file: str | Path | None = None,
    verbose: bool = False,
    progress: Callable[[float], None] | None = None,
) -> Engine:
    """Load ``target`` and its drafter.

    ``target``: ``tiny`` (built in) or a path. ``draft``: ``auto`` (the assistant found beside the target, else n-gram
    lookup), ``none``, ``ngram``, or a path to an assistant or a smaller model of the same vocabulary (n-gram lookup
    then drafts in its place where the text repeats itself). ``ctx_size`` in tokens; ``progress`` is called with
    0.0 … 1.0. ``exactness``: ``prefer`` probes whether drafting changes nothing, bit for bit, and guards near-ties
    where it might (the engine then says ``exact`` or ``guarded``); ``require`` chooses settings that are exact or
    refuses; ``off`` does neither. ``ngram_file``: keep finished texts (as tokens) in that file, and draft from it.
    Raises :class:`ModelError`, :class:`UsageError`, :class:`InputError` or :class:`BackendError`.
    """
    if exactness not in get_args(Wish):
        raise UsageError(f"exactness is {exactness!r}; it must be one of {', '.join(get_args(Wish))}.")
    params = ContextParams(ctx_size=ctx_size, threads=threads, gpu_layers=gpu_layers, device=device)
    drafting = DraftParams(max=draft_max)
    header = _target_header(resolve_model(target))
    kind, draft_header = _choose_drafter(str(draft or "none"), header)
    fitted = choose_settings(LoadRequest.from_headers(header, draft_header, kind, draft_max), params, read_machine())
    for opened in (header, draft_header):
        if opened:
            used(opened.path)
    tried = try_files(header.path, draft_header.path if draft_header else None, kind)
    notices = [*fitted.notices, *tried]
    plan = _Plan(
        str(target), header, kind, draft_header, drafting, exactness, draft != "auto", verbose, progress,
        fitted.drafter.gpu_layers, ngram_file,
    )  # fmt: skip
    *others, last = attempts(exactness, fitted.target)
    for settings in others:
        if engine := _open(plan, settings, list(notices), last=False):
            return engine
    engine = _open(plan, last, notices, last=True)
    assert engine is not None
    return engine


@dataclass(frozen=True)
class _Plan:
    """What is to be loaded. ``chosen``: the user named the drafter; ``draft_layers`` of it go to the GPU."""

    name: str
    header: GgufHeader
    kind: str
    draft_header: GgufHeader | None
    drafting: DraftParams
    exactness: Wish
    chosen: bool
    verbose: bool
    progress: Callable[[float], None] | None
    draft_layers: int | None
    ngram_file: str | Path | None


def _open(plan: _Plan, params: ContextParams, notices: list[str], *, last: bool) -> Engine | None:
    """Load with these settings; None, and nothing kept, where they are not exact and others are to be tried."""
    header, kind = plan.header, plan.kind
    with ExitStack() as stack:
        model = LlamaModel(header, params, verbose=plan.verbose, progress=plan.progress)
        stack.callback(model.close)
        if not model.can_generate:
            raise ModelFileError(f"{header.path} ({header.architecture}) is not a text generator; give a chat model.")
        n_ctx = params.ctx_size or min(model.n_ctx_train or DEFAULT_CTX, DEFAULT_CTX)
        if 0 < model.n_ctx_train < n_ctx:
            notices.append(f"The model was trained for {model.n_ctx_train} tokens; beyond them it may lose the thread.")
        if not model.can_rewind and kind != "none":
            kind = _without_drafter(plan, notices)
        context = LlamaContext(model, params, n_ctx, hidden=kind == "mtp")
        stack.callback(context.close)
        own = replace(params, gpu_layers=plan.draft_layers)
        drafters, drafting = _drafters(kind, plan.draft_header, model, context, own, stack, plan.verbose)
        sure = assure(context, plan.exactness, plan.drafting.max, last=last) if drafters else Assurance("exact")
        if sure is None:
            return None
        if sure.notice:
            notices.append(sure.notice)
        history = _history(plan, model) if drafters else None
        meter = Meter(context, drafting, sure.guard.widest) if drafters else None
        found = (*drafters, history) if history else drafters
        pair = Pair(context, model.vocabulary, found, history, reads_hidden=kind == "mtp", batch=params.batch)
        setup = Setup(sure.exactness, sure.guard, plan.drafting, notices=tuple(notices))
        if meter:
            setup = replace(setup, control=Controller(meter.costs(), sure.guard.widest), tune=meter.tune)
        info, template = _info(plan.name, model), _template(model)
        return Engine(pair, setup, model=info, template=template, close=stack.pop_all().close)


def _history(plan: _Plan, model: LlamaModel) -> HistoryDrafter | None:
    """Lookup in the file of earlier conversations that the user named, if so."""
    if plan.ngram_file is None:
        return None
    vocabulary = model.vocabulary
    texts = "\0".join(repr(vocabulary.raw_text(token)) for token in range(vocabulary.n_tokens))
    identity = hashlib.sha256(texts.encode()).hexdigest()
    return HistoryDrafter(NgramStore.open(plan.ngram_file, identity, vocabulary_size=vocabulary.n_tokens))


def _without_drafter(plan: _Plan, notices: list[str]) -> str:
    if plan.chosen:
        raise DraftMismatchError(
            f"{plan.header.path.name} ({plan.header.architecture}) keeps a recurrent state that cannot be rewound, so "
            "it cannot be drafted for; use `-d none`."
        )
    notices.append("This model's recurrent state cannot be rewound: decoding without a drafter.")
    return "none"


def _target_header(path: Path) -> GgufHeader:
    header = read_header(path)
    if is_assistant(header):
        raise ModelFileError(
            f"{path} is an MTP assistant, which only drafts; give it with -d and its Gemma 4 target with -m."
        )
    if header.architecture in ("clip", "mmproj") or header.metadata.get("general.type") == "mmproj":
        raise ModelFileError(f"{path} is a multimodal projector, not a language model; give the model it belongs to.")
    if is_trimmed(header):
        raise ModelFileError(
            f"{path} is a trimmed drafter, which lacks most tokens; give it with -d and its target with -m."
        )
    return header


def _choose_drafter(draft: str, target: GgufHeader) -> tuple[str, GgufHeader | None]:
    """``none``, ``ngram``, ``mtp`` or ``model``, and the header of its file."""
    if draft in ("none", "ngram"):
        return draft, None
    path = find_drafter(target) if draft == "auto" else resolve_model(draft, drafter=True)
    if path is None:
        return "ngram", None
    header = read_header(path)
    if is_assistant(header):
        check_assistant(target, header)
        return "mtp", header
    return "model", header


def _drafters(
    kind: str,
    header: GgufHeader | None,
    target: LlamaModel,
    context: LlamaContext,
    params: ContextParams,
    stack: ExitStack,
    verbose: bool,
) -> tuple[tuple[Drafter, ...], LlamaContext | LlamaMtpContext | None]:
    """What drafts for ``target``, lookup first, and the context in which the model among them decodes."""
    if kind == "none":
        return (), None
    if header is None:
        return (NgramDrafter(),), None
    model = LlamaModel(header, params, verbose=verbose)
    stack.callback(model.close)
    if kind == "mtp":
        assistant = LlamaMtpContext(model, params, context)
        stack.callback(assistant.close)
        return (NgramDrafter(), MtpDrafter(assistant)), assistant
    trim = read_trim(header) if is_trimmed(header) else None
    check_vocabularies(target, model, trim)
    if not model.can_generate or not model.can_rewind:
        raise DraftMismatchError(f"{header.path.name} ({header.architecture}) cannot draft; use `-d ngram`.")
    if trim is None:
        own, n_vocab = LlamaContext(model, params, context.n_ctx), model.n_vocab
        seen: Context = own
    else:
        own, n_vocab = LlamaTrimmedContext(model, params, context.n_ctx, trim.embeddings), trim.vocab_size
        seen = TrimmedContext(own, trim.ids, n_vocab, trim.head.values, trim.softcap)
    stack.callback(own.close)
    return (NgramDrafter(), ModelDrafter(seen, params.batch, min(target.n_vocab, n_vocab))), own


def check_vocabularies(target: LlamaModel, drafter: LlamaModel, trim: Trim | None = None) -> None:
    """Raise :class:`DraftMismatchError` unless an id means the same text in both models (llama.cpp's rule).

    Of a trimmed drafter the kept tokens are compared, and the size that its vocabulary had.
    """
    a, b = target.vocabulary, drafter.vocabulary
    ids = range(b.n_tokens) if trim is None else trim.ids.tolist()  # of the drafter's tokens, in the target
    size = trim.vocab_size if trim else b.n_tokens
    reason = None
    if a.type != b.type:
        reason = f"their tokenizers are of different types ({a.type} and {b.type})"
    elif (a.add_bos, a.add_eos) != (b.add_bos, b.add_eos) or (a.add_bos and a.bos != ids[b.bos]):
        reason = "they begin or end texts with different tokens"
    elif abs(a.n_tokens - size) > _MAX_VOCAB_DIFFERENCE:
        reason = f"their vocabularies have {a.n_tokens} and {size} tokens"
    else:
        for own, token in enumerate(ids):
            if _FIRST_COMPARED <= token < a.n_tokens and a.raw_text(token) != b.raw_text(own):
                reason = f"token {token} is {a.raw_text(token)!r} in one and {b.raw_text(own)!r} in the other"
                break
    if reason:
        raise DraftMismatchError(
            f"{drafter.path.name} cannot draft for {target.path.name}: {reason}. "
            "Give a smaller model of the same family, or use `-d ngram`."
        )


def _template(model: LlamaModel) -> ChatTemplate | None:
    source, vocabulary = model.chat_template, model.vocabulary
    if source is None:
        return None
    texts = {
        name: vocabulary.text(token).decode("utf-8", errors="replace") if token >= 0 else ""
        for name, token in (("bos", vocabulary.bos), ("eos", vocabulary.eos))
    }
    return ChatTemplate(source, **texts)


def _info(name: str, model: LlamaModel) -> ModelInfo:
    return ModelInfo(
        name, model.path, model.header.architecture, model.description, model.n_params, model.n_bytes,
        model.n_ctx_train, model.n_vocab,
    )  # fmt: skip
