"""The models of a pair: weights and vocabularies in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from localspec.chat.choose_template import ChosenTemplate
from localspec.chat.template import ChatTemplate
from localspec.engine import ModelInfo
from localspec.errors import DraftMismatchError, ModelFileError, TemplateError
from localspec.gguf.header import GgufHeader, is_trimmed
from localspec.llama.binding import devices
from localspec.llama.model import LlamaModel
from localspec.llama.trim_file import read_trim
from localspec.loading.files import PairFiles
from localspec.loading.options import LoadOptions
from localspec.machines.plan import Plan
from localspec.memory.cache_types import cache_notice
from localspec.memory.fit import DEFAULT_CTX
from localspec.params import ContextParams
from localspec.probe.contexts import LoadedModels

if TYPE_CHECKING:
    from localspec.loading.spread import Spread
    from localspec.machines.machines import Machines


def load_models(
    files: PairFiles,
    options: LoadOptions,
    params: ContextParams,
    draft_layers: int | None,
    spread: Spread | None,
    stack: ExitStack,
) -> LoadedModels:
    """Load a target with ``params``, and its drafter with ``draft_layers`` on a GPU. ``stack`` frees them.

    ``spread``: the target's layers on several machines. A drafter that is loaded later is left out.

    Raises :class:`ModelFileError` for a target that cannot generate, :class:`DraftMismatchError` for a drafter that
    cannot draft or that the target cannot use.
    """
    header, notices = files.target, list[str]()
    heads = files.kind == "heads"
    own_heads = heads and files.draft is None
    own = drafter_params(params, draft_layers)
    with _drafter_beside(files, own, options) if files.draft and not spread else nullcontext() as awaited:
        target, machines = _load_target(files, options, params, spread, stack)
        drafter = awaited() if awaited else None
    if drafter is not None:
        stack.callback(drafter.close)
    if notice := cache_notice(params, gpu=target.placement.gpu):
        notices.append(notice)
    n_ctx = params.ctx_size or min(target.n_ctx_train or DEFAULT_CTX, DEFAULT_CTX)
    if 0 < target.n_ctx_train < n_ctx:
        notices.append(f"The model was trained for {target.n_ctx_train} tokens; beyond them it may lose the thread.")
    kind, draft = files.kind, files.draft
    if machines is not None and kind != "none" and (heads or not target.can_rewind):
        if files.named:
            raise DraftMismatchError(
                f"{header.path.name} ({header.architecture}) cannot be drafted for this way while it is on several "
                f"machines; use `-d {'ngram' if target.can_rewind else 'none'}`."
            )
        notices.append("On several machines this model is not drafted for by its heads or from a recurrent state.")
        kind, draft, own_heads = "ngram" if target.can_rewind else "none", None, False
    models = LoadedModels(target, params, n_ctx, kind, projector=files.projector, notices=tuple(notices))
    if own_heads:
        return replace(models, drafter=target, draft_params=params)
    if draft is None:
        return models
    if drafter is None:
        drafter = _load_drafter(draft, kind, own, options, machines)
        stack.callback(drafter.close)
    return with_drafter(models, drafter, own)


def drafter_params(params: ContextParams, layers: int | None) -> ContextParams:
    """Settings of a drafter beside a target with ``params``. ``layers``: how many of its own a GPU holds."""
    return replace(params, gpu_layers=layers, cache_type_k=None, cache_type_v=None, media_cells=0, rollback=0)


def with_drafter(models: LoadedModels, drafter: LlamaModel, params: ContextParams) -> LoadedModels:
    """Add a loaded ``drafter``. Raises :class:`DraftMismatchError` for one that cannot draft."""
    header = drafter.header
    if models.kind == "model" and not drafter.can_generate:
        raise DraftMismatchError(f"{header.path.name} ({header.architecture}) cannot draft; use `-d ngram`.")
    return replace(models, drafter=drafter, draft_params=params, trim=read_trim(header) if is_trimmed(header) else None)


def _load_target(
    files: PairFiles, options: LoadOptions, params: ContextParams, spread: Spread | None, stack: ExitStack
) -> tuple[LlamaModel, Machines | None]:
    """Load a target, on several machines where its layers are spread."""
    header, machines = files.target, None
    if spread is None:
        own_heads = files.kind == "heads" and files.draft is None
        target = LlamaModel(header, params, heads=own_heads, verbose=options.verbose, progress=options.progress)
    else:
        from localspec.machines.context import load_remote
        from localspec.machines.machines import Machines

        machines = Machines(spread.workers)
        stack.callback(machines.close)
        target = load_remote(machines, header, params, spread.split, options.verbose, options.progress)
    stack.callback(target.close)
    if not target.can_generate:
        raise ModelFileError(f"{header.path} ({header.architecture}) is not a text generator; give a chat model.")
    return target, machines


def _load_drafter(
    header: GgufHeader, kind: str, params: ContextParams, options: LoadOptions, machines: Machines | None = None
) -> LlamaModel:
    """Load a drafter of this ``kind``; an assistant where its target is, whose cache it reads."""
    if machines is not None and kind == "mtp":
        from localspec.machines.context import load_remote

        return load_remote(machines, header, params, None, options.verbose)
    return LlamaModel(header, params, heads=kind == "heads", verbose=options.verbose)


@contextmanager
def _drafter_beside(
    files: PairFiles, params: ContextParams, options: LoadOptions
) -> Iterator[Callable[[], LlamaModel]]:
    """Load a drafter while the block loads the target; yields a function that waits for it.

    A file is loaded by one thread, so two take the time of one. A GPU is given one model after the other.
    """
    assert files.draft is not None
    load = partial(_load_drafter, files.draft, files.kind, params, options)
    if any(device.kind in ("gpu", "igpu") for device in devices()):
        yield load
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1, "localspec-load") as pool:
        yield pool.submit(load).result


def load_template(model: LlamaModel, chosen: ChosenTemplate | None) -> tuple[ChatTemplate | None, list[str]]:
    """The chosen template, else that of the model's file; None if it has none that can be used. Also notices."""
    vocabulary = model.vocabulary
    source, notice = chosen.pick(vocabulary) if chosen else (model.chat_template, None)
    if source is None:
        return None, []
    texts = {
        name: vocabulary.text(token).decode("utf-8", errors="replace") if token >= 0 else ""
        for name, token in (("bos", vocabulary.bos), ("eos", vocabulary.eos))
    }
    if chosen is not None:
        return ChatTemplate(source, **texts, name=f"the chat template {chosen.name}"), [notice] if notice else []
    try:
        return ChatTemplate(source, **texts), []
    except TemplateError as error:  # the model can still be used
        return None, [str(error)[:1].upper() + str(error)[1:]]


def model_info(name: str, model: LlamaModel, plan: Plan | None = None) -> ModelInfo:
    """What an engine tells of its target."""
    return ModelInfo(
        name, model.path, model.header.architecture, model.description, model.n_params, model.n_bytes,
        model.n_ctx_train, model.n_vocab, plan,
    )  # fmt: skip
