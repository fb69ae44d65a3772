"""GGUF file → GGUF file of smaller types, through llama.cpp's quantiser in a child process.

The child may be killed or abort at any time: the file appears under its name only when it is whole. What cannot work
is refused from the plan that the child makes first, before anything is written.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gguf_convert.files import check_destination, check_room, replaced_when_done
from gguf_convert.quantizer import run_quantizer
from gguf_convert.recipes import Recipe, left_in_float, make_recipe
from gguf_convert.report import Fallback, Report, inexact
from gguf_convert.retyping import retype
from localspec.errors import ConvertError, UsageError
from localspec.gguf.header import GgufHeader, read_header
from localspec.gguf.types import BLOCKS, FILE_TYPES, FLOATS, TENSOR_TYPES
from localspec.llama.quantize import PlannedTensor, QuantizeJob

#: Types that are noise without an importance matrix; llama.cpp refuses them, but for embeddings and the head.
_NEED_IMATRIX = ("IQ3_XXS", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ1_M", "IQ1_S")
_TYPE_NAMES = {number: name for name, number in TENSOR_TYPES.items()}
_NEVER_NEED = ("token_embd.weight", "per_layer_token_embd.weight", "output.weight")


@dataclass(frozen=True)
class Step:
    """How far a quantisation is: ``bytes`` of the output are written, and ``tensors`` begun."""

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
    progress: Callable[[Step], None] | None = None,
    force: bool = False,
) -> Report:
    """Quantise a GGUF file with llama.cpp.

    ``type`` is a file type of llama.cpp (``gguf_convert.TYPES``), ``role`` ("target", "drafter") and ``exact`` a recipe
    for speculation, see :func:`gguf_convert.recipes.make_recipe`; ``overrides`` maps patterns of tensor names to tensor
    types; ``pure`` switches llama.cpp's mixture off. ``imatrix`` is a file of llama-imatrix or ``localspec imatrix``.
    Quantised tensors are quantised again only with ``requantize``, an existing file is replaced only with ``force``.

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
    progress: Callable[[Step], None] | None = None,
) -> Report:
    """:func:`quantize` with a recipe at hand; replaces ``out``."""
    if threads is not None and threads < 1:
        raise UsageError(f"threads is {threads}; it must be at least 1.")
    header = read_header(source)
    if out.exists() and out.samefile(source):
        raise ConvertError(f"{out} is the file to read: give the result another name.")
    job = QuantizeJob(
        source=str(source),
        destination="",
        ftype=FILE_TYPES[recipe.type],
        overrides=tuple((pattern, TENSOR_TYPES[kind]) for pattern, kind in recipe.overrides),
        imatrix=None if imatrix is None else os.fspath(imatrix),
        pure=pure,
        requantize=requantize,
        threads=threads or 0,
    )
    with replaced_when_done(out) as partial:
        _quantize_to(job, partial, recipe, header, progress)
        made = read_header(partial)
    return _report(out, header, made, recipe)


def _quantize_to(
    job: QuantizeJob, partial: Path, recipe: Recipe, header: GgufHeader, progress: Callable[[Step], None] | None
) -> None:
    """Write the whole result as ``partial``."""
    planned: list[PlannedTensor] = []
    total = 0

    def accept(plan: list[PlannedTensor]) -> None:
        nonlocal total
        refuse(plan, header, recipe, job)
        total = sum(planned_bytes(plan, header))
        left = _left_over({tensor.name: tensor.after for tensor in plan}, recipe)
        check_room(partial, total * (2 if left else 1))
        planned.extend(plan)

    begun: list[str] = [""]

    def on_tensor(name: str) -> None:
        begun.append(name)

    def on_bytes(done: int) -> None:
        if progress is not None and planned:
            progress(Step(begun[-1], len(begun) - 1, len(planned), min(done, total), total))

    run_quantizer(job, partial, accept, on_tensor, on_bytes)
    left = _left_over(_types(read_header(partial)), recipe)
    if left:
        second = partial.with_name(partial.name + "2")
        try:
            retype(partial, second, left)
            os.replace(second, partial)
        finally:
            second.unlink(missing_ok=True)
    on_bytes(total)


def refuse(plan: Sequence[PlannedTensor], header: GgufHeader, recipe: Recipe, job: QuantizeJob) -> None:
    """ConvertError or UsageError for a plan that cannot work, or that would change nothing."""
    name = header.path.name
    changed = [tensor for tensor in plan if tensor.before != tensor.after]
    if plan and not changed and not _left_over(_types(header), recipe):
        raise ConvertError(f"{name} already is {recipe.label}: there is nothing to quantise.")
    lossy = [tensor for tensor in changed if tensor.before not in FLOATS]
    if lossy and not job.requantize:
        raise ConvertError(
            f"{name} is quantised already ({lossy[0].name} is {lossy[0].before}), and quantising again loses more: "
            "start from the F16, BF16 or F32 file, or insist with --requantize."
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
    """The size of each planned tensor; of a split file only what its first part describes."""
    shapes = {tensor.name: tensor for tensor in header.tensors}
    sizes = []
    for tensor in plan:
        if tensor.name not in shapes:
            continue
        elements = 1
        for n in shapes[tensor.name].shape:
            elements *= n
        kind = TENSOR_TYPES.get(tensor.after, shapes[tensor.name].type)
        per_block, size = BLOCKS.get(kind, (1, 4))
        sizes.append(elements // per_block * size)
    return sizes


def _types(header: GgufHeader) -> dict[str, str]:
    return {tensor.name: _TYPE_NAMES.get(tensor.type, str(tensor.type)) for tensor in header.tensors}


def _left_over(kinds: Mapping[str, str], recipe: Recipe) -> dict[str, str]:
    """What llama.cpp's quantiser leaves in float and the recipe does not: name → type. ``kinds``: name → type."""
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
    notes = inexact(fallbacks) if recipe.exact else ()
    return Report(out, after.architecture, recipe.label, len(after.tensors), out.stat().st_size, fallbacks, notes)
