"""Quantise a GGUF file with llama.cpp's quantiser.

The child process first makes a plan. A plan that cannot work is refused before anything is written. The file appears
under its name only when it is complete.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gguf_convert.output.files import check_destination, check_space, replaced_when_done
from gguf_convert.quantization.child import run_quantizer
from gguf_convert.quantization.retype import retype
from gguf_convert.recipes import Recipe, left_in_float, make_recipe
from gguf_convert.report import Fallback, Report, inexact_notes
from localspec.errors import ConvertError, UsageError
from localspec.gguf.header import GgufHeader, read_header
from localspec.gguf.types import FILE_TYPES, FLOATS, TENSOR_TYPES, TYPE_NAMES
from localspec.llama.quantize import PlannedTensor, QuantizeJob

#: Types that need an importance matrix: without one the result is noise, and llama.cpp refuses.
_NEED_IMATRIX = ("IQ3_XXS", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ1_M", "IQ1_S")
#: Tensors that llama.cpp quantises to any type without an importance matrix.
_NEVER_NEED = ("token_embd.weight", "per_layer_token_embd.weight", "output.weight")


@dataclass(frozen=True)
class QuantizeProgress:
    """Progress of a quantisation: the current tensor, tensors begun, and bytes of output written."""

    tensor: str
    tensors: int
    all_tensors: int
    bytes: int
    all_bytes: int


def quantize(
    in_path: str | os.PathLike[str],
    out_path: str | os.PathLike[str],
    type: str | None = None,
    *,
    role: str | None = None,
    exact: bool = False,
    imatrix: str | os.PathLike[str] | None = None,
    overrides: Mapping[str, str] | Sequence[tuple[str, str]] = (),
    pure: bool = False,
    threads: int | None = None,
    requantize: bool = False,
    progress: Callable[[QuantizeProgress], None] | None = None,
    force: bool = False,
) -> Report:
    """Quantise a GGUF file with llama.cpp.

    ``type`` is a file type of llama.cpp (``gguf_convert.TYPES``); ``role`` ("target", "drafter") and ``exact`` select a
    recipe for speculation (:func:`gguf_convert.recipes.make_recipe`). ``overrides`` maps patterns of tensor names to
    tensor types. ``pure`` switches llama.cpp's mixture of types off. ``imatrix`` is a file of llama-imatrix or
    ``localspec imatrix``. Quantised tensors are quantised again only with ``requantize``. An existing file is replaced
    only with ``force``.

    Raises a LocalspecError, and then leaves no file behind.
    """
    pairs = tuple(overrides.items()) if isinstance(overrides, Mapping) else tuple(overrides)
    recipe = make_recipe(type, role=role, exact=exact, overrides=pairs)
    out = Path(out_path)
    check_destination(out, force)
    return quantize_with(
        recipe,
        Path(in_path),
        out,
        imatrix=imatrix,
        pure=pure,
        threads=threads,
        requantize=requantize,
        progress=progress,
    )


def quantize_with(
    recipe: Recipe,
    source: Path,
    out: Path,
    *,
    imatrix: str | os.PathLike[str] | None = None,
    pure: bool = False,
    threads: int | None = None,
    requantize: bool = False,
    progress: Callable[[QuantizeProgress], None] | None = None,
) -> Report:
    """Do the work of :func:`quantize` with a given recipe. Replaces ``out``."""
    if threads is not None and threads < 1:
        raise UsageError(f"threads is {threads}; it must be at least 1.")
    header = read_header(source)
    if out.exists() and out.samefile(source):
        raise ConvertError(f"{out} is the file to read: give the result another name.")
    with replaced_when_done(out) as partial:
        job = QuantizeJob(
            source=str(source),
            destination=str(partial),
            ftype=FILE_TYPES[recipe.type],
            overrides=tuple((pattern, TENSOR_TYPES[kind]) for pattern, kind in recipe.overrides),
            imatrix=None if imatrix is None else os.fspath(imatrix),
            pure=pure,
            requantize=requantize,
            threads=threads or 0,
        )
        events = _Events(job, recipe, header, progress)
        run_quantizer(job, events)
        _retype_left_over(partial, recipe)
        events.on_bytes(events.total)
        made = read_header(partial)
    return _report(out, header, made, recipe)


class _Events:
    """Handler of the child's messages: checks the plan and reports progress."""

    def __init__(
        self,
        job: QuantizeJob,
        recipe: Recipe,
        header: GgufHeader,
        progress: Callable[[QuantizeProgress], None] | None,
    ) -> None:
        self.total = 0
        self._job, self._recipe, self._header, self._progress = job, recipe, header, progress
        self._tensor, self._begun, self._all = "", 0, 0

    def on_plan(self, plan: Sequence[PlannedTensor]) -> None:
        """Raise for a plan that cannot work, or that needs more space than there is."""
        refuse(plan, self._header, self._recipe, self._job)
        self.total, self._all = sum(planned_bytes(plan, self._header)), len(plan)
        left = _left_over({tensor.name: tensor.after for tensor in plan}, self._recipe)
        check_space(Path(self._job.destination), self.total * (2 if left else 1))

    def on_tensor(self, name: str) -> None:
        self._tensor, self._begun = name, self._begun + 1

    def on_bytes(self, done: int) -> None:
        if self._progress is not None and self._all:
            at = QuantizeProgress(self._tensor, self._begun, self._all, min(done, self.total), self.total)
            self._progress(at)


def _retype_left_over(path: Path, recipe: Recipe) -> None:
    """Quantise the tensors of ``path`` that llama.cpp left in float and the recipe does not."""
    left = _left_over(_types(read_header(path)), recipe)
    if not left:
        return
    second = path.with_name(path.name + "2")
    try:
        retype(path, second, left)
        os.replace(second, path)
    finally:
        second.unlink(missing_ok=True)


def refuse(plan: Sequence[PlannedTensor], header: GgufHeader, recipe: Recipe, job: QuantizeJob) -> None:
    """Raise ConvertError for a plan that cannot work, or that would change nothing."""
    name = header.path.name
    changed = [tensor for tensor in plan if tensor.before != tensor.after]
    if plan and not changed and not _left_over(_types(header), recipe):
        raise ConvertError(f"{name} already is {recipe.label}: there is nothing to quantise.")
    lossy = [tensor for tensor in changed if tensor.before not in FLOATS]
    if lossy and not job.requantize:
        raise ConvertError(
            f"{name} is quantised already ({lossy[0].name} is {lossy[0].before}), and quantising again loses more: "
            "start from the F16, BF16 or F32 file, or allow it with --requantize."
        )
    if job.imatrix is None:
        poor = [t for t in changed if t.after in _NEED_IMATRIX and t.name not in _NEVER_NEED]
        poor += [t for t in changed if job.ftype == FILE_TYPES["Q2_K_S"] and t.after == "Q2_K"]
        if poor:
            raise ConvertError(
                f"{recipe.label} makes {poor[0].name} {poor[0].after}, which is noise without an importance matrix: "
                "make one with `localspec imatrix MODEL TEXT -o FILE` and give it with --imatrix."
            )


def planned_bytes(plan: Sequence[PlannedTensor], header: GgufHeader) -> list[int]:
    """Return the new size of each planned tensor, in bytes; of a split file only for tensors of the first part."""
    infos = {tensor.name: tensor for tensor in header.tensors}
    sizes = []
    for planned in plan:
        if info := infos.get(planned.name):
            kind = TENSOR_TYPES.get(planned.after, info.type)
            sizes.append(replace(info, type=kind).bytes or 4 * info.elements)
    return sizes


def _types(header: GgufHeader) -> dict[str, str]:
    return {tensor.name: TYPE_NAMES.get(tensor.type, str(tensor.type)) for tensor in header.tensors}


def _left_over(kinds: Mapping[str, str], recipe: Recipe) -> dict[str, str]:
    """Return name → wanted type of the tensors that llama.cpp leaves in float and the recipe does not.

    ``kinds`` maps every tensor to its type.
    """
    if not recipe.uniform:
        return {}
    return {
        name: wanted
        for name, kind in kinds.items()
        if left_in_float(name) and kind in FLOATS and (wanted := recipe.override(name))
    }


def _report(out: Path, before: GgufHeader, after: GgufHeader, recipe: Recipe) -> Report:
    old = _types(before)
    fallbacks = tuple(
        Fallback(name, kind, "its rows do not divide into blocks of 32")
        for name, kind in _types(after).items()
        if kind == "F16" and old.get(name) not in (None, "F16") and recipe.type not in FLOATS
    )
    notes = inexact_notes(fallbacks) if recipe.exact else ()
    return Report(out, after.architecture, recipe.label, len(after.tensors), out.stat().st_size, fallbacks, notes)
