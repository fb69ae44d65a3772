"""Build an :class:`Engine` from names: files, checks, models, contexts, drafters. Checks come before llama.cpp."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from localspec.chat.template import ChatTemplate
from localspec.control.controller import Controller
from localspec.control.costs import Costs
from localspec.draft.base import Drafter
from localspec.draft.history import HistoryDrafter
from localspec.draft.model import ModelDrafter
from localspec.draft.mtp import MtpDrafter
from localspec.draft.ngram import NgramDrafter
from localspec.draft.ngram_store import NgramStore
from localspec.draft.trimmed import TrimmedContext
from localspec.engine import Engine, ModelInfo
from localspec.errors import DraftMismatchError, ModelFileError, UsageError
from localspec.generation.pair import Pair, Setup, Tune
from localspec.generation.prefill import Prefill
from localspec.gguf.header import GgufHeader, is_trimmed, read_header
from localspec.llama.context import LlamaContext
from localspec.llama.model import LlamaModel
from localspec.llama.mtp import LlamaMtpContext
from localspec.llama.trim_file import read_trim
from localspec.llama.trimmed import LlamaTrimmedContext
from localspec.memory.fit import DEFAULT_CTX, LoadRequest, choose_settings
from localspec.memory.machine import read_machine
from localspec.models.pairing import check_assistant, check_vocabulary, find_drafter, is_assistant
from localspec.models.resolve import resolve_model
from localspec.models.store import mark_used
from localspec.params import ContextParams, DraftParams, ExactnessMode
from localspec.probe.costs import CostMeasurement
from localspec.probe.exactness import decide_exactness, decide_without_drafter, settings_to_try
from localspec.probe.load_test import try_files
from localspec.protocols import Context


def load(
    target: str | Path = "tiny",
    draft: str | Path | None = "auto",
    *,
    ctx_size: int | None = None,
    threads: int | None = None,
    gpu_layers: int | None = None,
    device: str | None = None,
    draft_max: int | None = None,
    exactness: ExactnessMode = "prefer",
    ngram_file: str | Path | None = None,
    verbose: bool = False,
    progress: Callable[[float], None] | None = None,
) -> Engine:
    """Load ``target`` and its drafter.

    ``target``: ``tiny`` (built in), a path, or the name of a model that was pulled. ``draft``: ``auto`` (the assistant
    found beside the target, else n-gram lookup), ``none``, ``ngram``, or a path to an assistant or to a smaller model
    of the same vocabulary, beside which n-gram lookup drafts repetitions. ``ctx_size``: tokens of prompt and answer.
    ``threads``: CPU threads, by default the physical cores, fewer while other programs are busy.
    ``draft_max``: most draft tokens of a step. ``exactness``: ``prefer`` probes if drafting keeps every bit of the
    logits and guards near-ties where it does not; ``require`` chooses settings that are exact or raises; ``off`` does
    neither. ``ngram_file``: a file to keep the tokens of finished texts in and to draft from. ``progress`` is called
    with the share loaded, 0.0 to 1.0. Raises :class:`ModelError`, :class:`UsageError`, :class:`InputError` or
    :class:`BackendError`.
    """
    if exactness not in get_args(ExactnessMode):
        raise UsageError(f"exactness is {exactness!r}; it must be one of {', '.join(get_args(ExactnessMode))}.")
    params = ContextParams(ctx_size=ctx_size, threads=threads, gpu_layers=gpu_layers, device=device)
    options = _Options(str(target), DraftParams(max=draft_max), exactness, ngram_file, verbose, progress)
    header = _target_header(resolve_model(target))
    source = _choose_drafter(str(draft or "none"), header)
    request = LoadRequest.from_headers(header, source.header, source.kind, draft_max)
    fitted = choose_settings(request, params, read_machine())
    for opened in (header, source.header):
        if opened:
            mark_used(opened.path)
    tried = try_files(header.path, source.header.path if source.header else None, source.kind)
    pair = _PairFiles(options, header, replace(source, gpu_layers=fitted.drafter.gpu_layers))
    *others, last = settings_to_try(exactness, fitted.target)
    for settings in others:
        if engine := _open(pair, settings, [*fitted.notices, *tried], last=False):
            return engine
    engine = _open(pair, last, [*fitted.notices, *tried], last=True)
    assert engine is not None
    return engine


@dataclass(frozen=True)
class _Options:
    """Options of :func:`load` that are not about files and settings of the contexts; ``name`` is the target's."""

    name: str
    draft: DraftParams
    exactness: ExactnessMode
    ngram_file: str | Path | None
    verbose: bool
    progress: Callable[[float], None] | None


@dataclass(frozen=True)
class _DrafterSource:
    """The drafter to load: ``none``, ``ngram``, ``mtp`` or ``model``, and the header of its file.

    ``named``: the user chose it. ``gpu_layers`` of it go to the GPU.
    """

    kind: str
    header: GgufHeader | None = None
    named: bool = True
    gpu_layers: int | None = None


@dataclass(frozen=True)
class _PairFiles:
    """A target and a drafter to load."""

    options: _Options
    header: GgufHeader
    drafter: _DrafterSource


def _open(files: _PairFiles, params: ContextParams, notices: list[str], *, last: bool) -> Engine | None:
    """Load with these settings. Returns None, and frees everything, if they are not exact and not the ``last``."""
    header, source, options = files.header, files.drafter, files.options
    with ExitStack() as stack:
        model = LlamaModel(header, params, verbose=options.verbose, progress=options.progress)
        stack.callback(model.close)
        if not model.can_generate:
            raise ModelFileError(f"{header.path} ({header.architecture}) is not a text generator; give a chat model.")
        n_ctx = params.ctx_size or min(model.n_ctx_train or DEFAULT_CTX, DEFAULT_CTX)
        if 0 < model.n_ctx_train < n_ctx:
            notices.append(f"The model was trained for {model.n_ctx_train} tokens; beyond them it may lose the thread.")
        if not model.can_rewind and source.kind != "none":
            source = _without_drafter(files, notices)
        hidden = source.kind == "mtp"
        context = LlamaContext(model, params, n_ctx, hidden=hidden)
        stack.callback(context.close)
        own = replace(params, gpu_layers=source.gpu_layers)
        drafters, drafting = _drafters(source, context, own, stack, verbose=options.verbose)
        if drafters:
            verdict = decide_exactness(context, options.exactness, options.draft.max, last=last)
        else:
            verdict = decide_without_drafter(context, options.exactness)
        if verdict is None:
            return None
        setup = Setup(verdict.exactness, verdict.guard, options.draft)
        adaptive = [one for one in (context, drafting) if one is not None and params.threads is None]
        history = None
        if drafters:
            costs = CostMeasurement(context, drafting, verdict.guard.widest)
            control = Controller(costs.costs(), verdict.guard.widest)
            setup = replace(setup, control=control, tune=_with_all_threads(costs.tune, adaptive))
            history = _history(options.ngram_file, model)
        setup = replace(setup, notices=(*notices, *([verdict.notice] if verdict.notice else [])))
        found = (*drafters, history) if history else drafters
        pair = Pair(context, model.vocabulary, found, history, hidden, Prefill(context.pass_width, verdict.chunk))
        info, template = _info(options.name, model), _template(model)
        for one in adaptive:
            one.adapt_threads(True)
        return Engine(pair, setup, model=info, template=template, close=stack.pop_all().close)


def _with_all_threads(tune: Tune, contexts: Sequence[LlamaContext | LlamaMtpContext]) -> Tune:
    """Return ``tune`` with all threads of ``contexts``, which else adapt to the load of the machine."""

    def tune_all(progress: Callable[[float], None] | None = None) -> Costs:
        for context in contexts:
            context.adapt_threads(False)
        try:
            return tune(progress)
        finally:
            for context in contexts:
                context.adapt_threads(True)

    return tune_all


def _history(path: str | Path | None, model: LlamaModel) -> HistoryDrafter | None:
    """Lookup in the user's file of earlier texts, if there is one. The file is bound to the model's vocabulary."""
    if path is None:
        return None
    vocabulary = model.vocabulary
    texts = "\0".join(repr(vocabulary.raw_text(token)) for token in range(vocabulary.n_tokens))
    identity = hashlib.sha256(texts.encode()).hexdigest()
    return HistoryDrafter(NgramStore.open(path, identity, vocabulary_size=vocabulary.n_tokens))


def _without_drafter(files: _PairFiles, notices: list[str]) -> _DrafterSource:
    """Replace the drafter of a model that cannot be rewound by none. Raises where the user named the drafter."""
    if files.drafter.named:
        raise DraftMismatchError(
            f"{files.header.path.name} ({files.header.architecture}) keeps a recurrent state that cannot be rewound, "
            "so it cannot be drafted for; use `-d none`."
        )
    notices.append("This model's recurrent state cannot be rewound: decoding without a drafter.")
    return _DrafterSource("none")


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


def _choose_drafter(draft: str, target: GgufHeader) -> _DrafterSource:
    if draft in ("none", "ngram"):
        return _DrafterSource(draft)
    named = draft != "auto"
    path = resolve_model(draft, drafter=True) if named else find_drafter(target)
    if path is None:
        return _DrafterSource("ngram", None, named)
    header = read_header(path)
    if is_assistant(header):
        check_assistant(target, header)
        return _DrafterSource("mtp", header, named)
    check_vocabulary(target, header)
    return _DrafterSource("model", header, named)


def _drafters(
    source: _DrafterSource, context: LlamaContext, params: ContextParams, stack: ExitStack, *, verbose: bool
) -> tuple[tuple[Drafter, ...], LlamaContext | LlamaMtpContext | None]:
    """Load the drafters of the target in ``context``, lookup first; also the context in which a draft model decodes."""
    target, header = context.model, source.header
    if source.kind == "none":
        return (), None
    if header is None:
        return (NgramDrafter(),), None
    model = LlamaModel(header, params, verbose=verbose)
    stack.callback(model.close)
    if source.kind == "mtp":
        assistant = LlamaMtpContext(model, params, context)
        stack.callback(assistant.close)
        return (NgramDrafter(), MtpDrafter(assistant)), assistant
    trim = read_trim(header) if is_trimmed(header) else None
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
