"""Build an :class:`Engine` from names: files → settings → load test → models → contexts → measurement → engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from localspec.chat.choose_template import choose_template
from localspec.engine import Engine
from localspec.errors import UsageError
from localspec.generation.kept import KeptCaches
from localspec.loading.contexts import make_pairs, open_contexts
from localspec.loading.files import PairFiles, find_files
from localspec.loading.measuring import measure
from localspec.loading.models import LoadOptions, load_models, load_template, model_info
from localspec.memory.cache_types import check_cache_types
from localspec.memory.fit import LoadRequest, choose_settings, kept_bytes
from localspec.memory.machine import read_machine
from localspec.models.store import mark_used
from localspec.params import ContextParams, DraftParams, ExactnessMode, check_pass_width
from localspec.probe.exactness import settings_to_try
from localspec.probe.load_test import try_files

if TYPE_CHECKING:
    from localspec.loading.spread import Spread


def load(
    target: str | Path | None = "tiny",
    draft: str | Path | None = "auto",
    *,
    ctx_size: int | None = None,
    parallel: int | None = 1,
    cache_ram: int | None = None,
    threads: int | None = None,
    gpu_layers: int | None = None,
    device: str | None = None,
    cache_type_k: str | None = None,
    cache_type_v: str | None = None,
    draft_max: int | None = None,
    exactness: ExactnessMode | None = "prefer",
    pass_width: int | None = None,
    ngram_file: str | Path | None = None,
    rpc: str | Sequence[str] | None = None,
    chat_template: str | Path | None = None,
    verbose: bool = False,
    progress: Callable[[float], None] | None = None,
) -> Engine:
    """Load ``target`` and its drafter. None for any option means its default.

    ``target``: ``tiny`` (built in), a path, or the name of a model on disk. ``draft``: ``auto`` (the best drafter on
    disk, else n-gram lookup), ``none``, ``ngram``, or a path to an assistant or to a smaller model of the same
    vocabulary, beside which n-gram lookup drafts repetitions. ``ctx_size``: tokens of prompt and answer. ``parallel``:
    calls that are answered at the same time, each in a context of that size; others wait in order. ``cache_ram``: MiB
    for caches of earlier conversations (None: 0 for one call at a time, else 1024, or an eighth of what is free).
    ``cache_type_k``, ``cache_type_v``: types of the target's keys and values (q8_0 and f16 on a CPU, f16 on a GPU).
    ``draft_max``: most draft tokens of a step. ``exactness``: ``prefer`` proves where it can that drafting keeps every
    bit of the logits, and says ``approximate`` where it does not; ``require`` chooses settings that are exact or
    raises; ``off`` does neither, and takes llama-server's cache types and passes. ``pass_width``: pad every pass to so
    many rows, 1: none, None: where that is exact and costs little. ``ngram_file``: a file to keep the tokens of
    finished texts in and to draft from. ``rpc``: workers ``HOST:PORT`` that may hold layers (docs/machines.md); what
    happens to them is told by the logger ``localspec.machines``. ``chat_template``: one to use in place of the model's:
    ``gemma``, ``chatml``, ``llama3``, a file, or its text. ``progress`` is called with the share loaded, 0.0 to 1.0.

    A pair is measured once for each machine. With ``prefer`` that happens between the first answers, which are plain
    (see :meth:`Engine.measure`); ``require`` proves before it returns. Raises :class:`ModelError`,
    :class:`UsageError`, :class:`InputError`, :class:`TemplateError` or :class:`BackendError`.
    """
    target = "tiny" if target is None else target
    draft = "auto" if draft is None else draft
    exactness = "prefer" if exactness is None else exactness
    if exactness not in get_args(ExactnessMode):
        raise UsageError(f"exactness is {exactness!r}; it must be one of {', '.join(get_args(ExactnessMode))}.")
    check_pass_width(pass_width, exactness)
    params = ContextParams(
        ctx_size=ctx_size, threads=threads, gpu_layers=gpu_layers, device=device, cache_type_k=cache_type_k,
        cache_type_v=cache_type_v, sequences=1 if parallel is None else parallel, fast=exactness == "off",
    )  # fmt: skip
    template, draft_params, machine = choose_template(chat_template), DraftParams(max=draft_max), read_machine()
    kept = kept_bytes(cache_ram, params, machine)
    options = LoadOptions(
        str(target), draft_params, exactness, pass_width, ngram_file, verbose, progress, template, kept
    )
    files = find_files(target, draft)
    check_cache_types(files.target, params)
    request = LoadRequest.from_headers(*files.headers, files.kind, options.draft.max)
    spread = None
    if rpc:
        from localspec.loading.spread import spread_layers
        from localspec.machines.address import parse_workers

        spread = spread_layers(parse_workers(rpc), request, params, machine)
    fitted = spread.settings if spread and spread.workers else choose_settings(request, params, machine)
    for path in files.paths:
        mark_used(path)
    if spread and not spread.workers:
        fitted, spread = replace(fitted, notices=(*fitted.notices, *spread.settings.notices)), None
    tried = () if spread else try_files(files.target.path, files.draft_path, files.kind, params)
    notices = [*fitted.notices, *tried]
    *others, last = settings_to_try(exactness, fitted.target)
    for settings in others:
        if engine := _open(files, options, settings, fitted.drafter.gpu_layers, notices, spread, last=False):
            return engine
    engine = _open(files, options, last, fitted.drafter.gpu_layers, notices, spread, last=True)
    assert engine is not None
    return engine


def _open(
    files: PairFiles,
    options: LoadOptions,
    params: ContextParams,
    draft_layers: int | None,
    notices: list[str],
    spread: Spread | None,
    *,
    last: bool,
) -> Engine | None:
    """Load with these settings. Returns None, and frees everything, if they are not exact and not the ``last``."""
    with ExitStack() as stack:
        models = load_models(files, options, params, draft_layers, spread, stack)
        contexts = open_contexts(models, stack)
        template, about_template = load_template(models.target, options.template)
        measured = measure(models, contexts[0], options, [*notices, *models.notices, *about_template], last=last)
        if measured is None:
            return None
        setup, measurement = measured
        pair, scheduler = make_pairs(models, contexts, options)
        info, close = model_info(options.name, models.target), stack.pop_all().close
        kept = KeptCaches(options.kept_bytes)
        return Engine(
            pair, setup, measurement, model=info, template=template, close=close, scheduler=scheduler, kept=kept
        )
