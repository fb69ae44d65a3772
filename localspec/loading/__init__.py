"""Build an :class:`Engine` from names: files → settings → load test → models → contexts → measurement → engine.

What is slow to import is imported here while the child of the load test does the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from localspec.errors import UsageError
from localspec.loading.files import PairFiles, find_files
from localspec.loading.options import MEASURED_AT_ONCE, LoadOptions
from localspec.memory.cache_types import check_cache_types
from localspec.memory.fit import LoadRequest, LoadSettings, Machine, choose_settings
from localspec.memory.projector import projector_bytes
from localspec.models.projector import one_pass_cells, picture_cells
from localspec.models.store import mark_used
from localspec.params import (
    ROLLBACK,
    ContextParams,
    DraftParams,
    ExactnessMode,
    check_image_tokens,
    check_pass_width,
)
from localspec.probe.load_test import Trial, is_new

if TYPE_CHECKING:
    from localspec.chat.choose_template import ChosenTemplate
    from localspec.engine import Engine


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
    mmproj: str | Path | None = "auto",
    image_tokens: tuple[int, int] | None = None,
    verbose: bool = False,
    progress: Callable[[float], None] | None = None,
) -> Engine:
    """Load ``target`` and its drafter. None for any option means its default.

    ``target``: ``tiny`` (built in), a path, or the name of a model on disk. ``draft``: ``auto`` (the target's own
    prediction heads, else the best drafter on disk, else n-gram lookup), ``none``, ``ngram``, ``mtp`` (heads or an
    assistant), or a path to an assistant, to heads or to a smaller model of the same vocabulary, beside which n-gram
    lookup drafts repetitions. ``ctx_size``: tokens of prompt and answer. ``parallel``:
    calls that are answered at the same time, each in a context of that size; others wait in order. ``cache_ram``: MiB
    for caches of earlier conversations (None: 0 for one call at a time, else 1024, or an eighth of what is free).
    ``cache_type_k``, ``cache_type_v``: types of the target's keys and values (q8_0 and f16 on a CPU, f16 on a GPU).
    ``draft_max``: most draft tokens of a step. ``exactness``: ``prefer`` proves where it can that drafting keeps every
    bit of the logits, and says ``approximate`` where it does not; ``require`` chooses settings that are exact or
    raises; ``off`` does neither, and takes llama-server's cache types and passes. ``pass_width``: pad every pass to so
    many rows, 1: none, None: where that is exact and costs little. ``ngram_file``: a file to keep the tokens of
    finished texts in and to draft from. ``rpc``: workers ``HOST:PORT`` that may hold layers (docs/machines.md); what
    happens to them is told by the logger ``localspec.machines``. ``chat_template``: one to use in place of the model's:
    ``gemma``, ``chatml``, ``llama3``, a file, or its text. ``mmproj``: the projector that reads pictures and sounds:
    ``auto`` (the target's on disk, if any), ``none``, or a path; it is loaded when the first one comes.
    ``image_tokens``: fewest and most tokens of a picture, where its projector has a choice. ``progress`` is called with
    the share loaded, 0.0 to 1.0.

    A pair is measured once for each machine. With ``prefer`` that happens between the first answers, which are plain
    (see :meth:`Engine.measure`); a draft model that ``auto`` finds is loaded then as well, if it is new on the machine.
    ``require`` proves before it returns. Raises :class:`ModelError`, :class:`UsageError`, :class:`InputError`,
    :class:`TemplateError` or :class:`BackendError`.
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
        rollback=max(ROLLBACK, (pass_width or 1) - 1),
        repack=not (rpc and exactness == "require"),  # workers have no such kernels, and answers must not tell
    )  # fmt: skip
    options = LoadOptions(
        str(target), DraftParams(max=draft_max), exactness, pass_width, ngram_file, verbose, progress,
        _template(chat_template), cache_ram, image_tokens,
    )  # fmt: skip
    check_image_tokens(image_tokens)
    files = find_files(target, draft, mmproj)
    check_cache_types(files.target, params)
    if exactness == "prefer" and not rpc:
        files = _postpone(files, params)
    with Trial(files.target.path, files.draft_path, files.kind, params) as trial:
        from localspec.memory.machine import read_machine

        machine = read_machine()
        spread = None
        if rpc:
            from localspec.loading.spread import spread_layers
            from localspec.machines.address import parse_workers

            request = LoadRequest.from_headers(*files.headers, files.kind, draft_max)
            spread = spread_layers(parse_workers(rpc), request, params, machine)
            options = replace(options, plan=spread.plan)
        if spread and spread.workers:
            fitted = spread.settings
            if files.projector is not None:  # it needs the model in this process
                files, silent = replace(files, projector=None), "On several machines no pictures and sounds are read."
                fitted = replace(fitted, notices=(*fitted.notices, silent))
        else:
            files, fitted = _fit(files, options, params, machine, named=mmproj not in (None, "auto"))
        for path in files.paths:
            mark_used(path)
        if spread and not spread.workers:
            fitted, spread = replace(fitted, notices=(*fitted.notices, *spread.settings.notices)), None
        trial.begin() if spread is None else trial.skip()
        from localspec.loading.assemble import assemble

        return assemble(files, options, fitted, machine, spread, trial)


def _postpone(files: PairFiles, params: ContextParams) -> PairFiles:
    """Leave a draft model for later that is new here, so that the first answer cannot use it; see :mod:`.late`.

    One that the user has named is loaded at once, because its faults are told at once.
    """
    small = sum(tensor.bytes or 0 for tensor in files.target.tensors) <= MEASURED_AT_ONCE
    if files.draft is None or files.kind != "model" or files.named or small:
        return files
    if not is_new(files.target.path, files.draft.path, params):
        return files
    return replace(files, draft=None, late=files.draft)


def _template(choice: str | Path | None) -> ChosenTemplate | None:
    """The user's template. Templates are slow to import."""
    if choice is None:
        return None
    from localspec.chat.choose_template import choose_template

    return choose_template(choice)


def _fit(
    files: PairFiles, options: LoadOptions, params: ContextParams, machine: Machine, *, named: bool
) -> tuple[PairFiles, LoadSettings]:
    """Choose settings with which a load fits, without a projector that does not fit and that nobody has ``named``."""
    request = LoadRequest.from_headers(*files.headers, files.kind, options.draft.max)
    if files.projector is None:
        return files, choose_settings(request, params, machine)
    limits = picture_cells(files.projector, options.image_tokens)
    cells, size = one_pass_cells(files.target, files.projector, limits), projector_bytes(files.projector, limits)
    try:
        return files, choose_settings(replace(request, projector=size), replace(params, media_cells=cells), machine)
    except UsageError:
        if named:
            raise
    fitted = choose_settings(request, params, machine)
    notice = f"The memory has no room for {files.projector.path.name}: no pictures and sounds."
    return replace(files, projector=None), replace(fitted, notices=(*fitted.notices, notice))
