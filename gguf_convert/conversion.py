"""Checkpoint folder → GGUF file: read, map, write.

The file appears under its name only when it is complete: it is written in a folder of its own beside it, synced, then
renamed; whatever goes wrong, nothing is left behind.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from gguf_convert.arch import ModelMap, map_checkpoint
from gguf_convert.checkpoint import Checkpoint, open_checkpoint
from gguf_convert.encoding import byte_shape, choose_type, encode_all, file_type
from gguf_convert.files import check_destination, check_room, replaced_when_done, work_folder
from gguf_convert.recipes import Recipe, expected_bytes, make_recipe
from gguf_convert.report import Fallback, Report, inexact
from gguf_convert.tensors import ModelTensor
from gguf_convert.tokenizer import Vocabulary, read_vocabulary

Progress = Callable[[int, int], None]
"""Called with (bytes of tensors written, bytes in all)."""

#: Types that are written straight from the checkpoint; the others go through llama.cpp's quantiser.
DIRECT = ("F32", "F16", "BF16", "Q8_0", "Q4_0")


@dataclass(frozen=True)
class _Planned:
    tensor: ModelTensor
    kind: gguf.GGMLQuantizationType
    shape: tuple[int, ...]  # in bytes

    @property
    def bytes(self) -> int:
        return math.prod(self.shape)


def convert(
    checkpoint_dir: str | os.PathLike[str],
    out_path: str | os.PathLike[str],
    type: str | None = None,
    *,
    role: str | None = None,
    exact: bool = False,
    imatrix: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    force: bool = False,
) -> Report:
    """Convert a Hugging Face checkpoint folder to one GGUF file.

    ``type`` is one of ``gguf_convert.TYPES`` in any case, Q8_0 unless ``role`` ("target", "drafter") or ``exact`` asks
    for a recipe, see :func:`gguf_convert.recipes.make_recipe`. An existing file is replaced only with ``force``.
    ``imatrix`` is for llama.cpp's quantiser, which makes all but the plainest types; ``threads`` is one for each core
    when None.
    Raises ConvertError (or UsageError for an unknown type) and then leaves no file behind.
    """
    recipe = make_recipe(type or (None if role or exact else "Q8_0"), role=role, exact=exact)
    out = Path(out_path)
    check_destination(out, force)
    checkpoint = open_checkpoint(Path(checkpoint_dir))
    model = map_checkpoint(checkpoint)
    vocabulary = read_vocabulary(checkpoint.path, model.vocab_rows)
    notes = (*model.notes, *vocabulary.notes)
    if recipe.type in DIRECT and imatrix is None:
        metadata = _metadata(checkpoint, model, vocabulary, recipe.type)
        return _write(out, model, metadata, recipe, notes, progress or _silent, threads)
    float_recipe = make_recipe(_float_type(checkpoint))
    metadata = _metadata(checkpoint, model, vocabulary, float_recipe.type)
    return _write_and_quantize(out, model, metadata, (float_recipe, recipe), notes, imatrix, threads, progress)


def _silent(done: int, total: int) -> None:
    pass


def _write(
    out: Path,
    model: ModelMap,
    metadata: dict[str, Any],
    recipe: Recipe,
    notes: tuple[str, ...],
    progress: Progress,
    threads: int | None,
) -> Report:
    plan, fallbacks = _plan(model, recipe)
    check_room(out, sum(item.bytes for item in plan))
    with replaced_when_done(out) as partial:
        _write_header(partial, model.architecture, metadata, plan)
        _write_tensors(partial, plan, progress, threads)
    if recipe.exact:
        notes = (*notes, *inexact(fallbacks))
    return Report(out, model.architecture, recipe.label, len(plan), out.stat().st_size, tuple(fallbacks), notes)


def _write_and_quantize(
    out: Path,
    model: ModelMap,
    metadata: dict[str, Any],
    recipes: tuple[Recipe, Recipe],
    notes: tuple[str, ...],
    imatrix: str | os.PathLike[str] | None,
    threads: int | None,
    progress: Progress | None,
) -> Report:
    """Through a file of floats, which llama.cpp's quantiser reads and which is gone in the end."""
    from gguf_convert.quantizing import Step, quantize_with

    floats, recipe = recipes
    in_floats = sum(item.bytes for item in _plan(model, floats)[0])
    after = expected_bytes(recipe, sum(tensor.elements for tensor in model.tensors))
    check_room(out, in_floats + after)
    report = progress or _silent

    def second(step: Step) -> None:
        report(in_floats + after * step.bytes // max(1, step.all_bytes), in_floats + after)

    with work_folder(out) as folder:
        whole = folder / f"{out.stem}-{floats.type}.gguf"
        _write(whole, model, metadata, floats, (), lambda done, total: report(done, in_floats + after), threads)
        made = quantize_with(recipe, whole, out, imatrix=imatrix, threads=threads, progress=second)
    return replace(made, notes=(*notes, *made.notes))


def _float_type(checkpoint: Checkpoint) -> str:
    """The narrowest type that holds every matrix as it is."""
    types = {tensor.dtype for tensor in checkpoint.tensors.values() if len(tensor.shape) > 1}
    return types.pop() if len(types) == 1 and types <= {"BF16", "F16"} else "F32"


def _plan(model: ModelMap, recipe: Recipe) -> tuple[list[_Planned], list[Fallback]]:
    plan, fallbacks = [], []
    for tensor in model.tensors:
        kind, fallback = choose_type(tensor, recipe)
        plan.append(_Planned(tensor, kind, byte_shape(tensor, kind)))
        if fallback is not None:
            fallbacks.append(fallback)
    return plan, fallbacks


def _metadata(checkpoint: Checkpoint, model: ModelMap, vocabulary: Vocabulary, name: str) -> dict[str, Any]:
    return {
        "general.type": "model",
        "general.name": _printable(checkpoint.path.resolve().name),
        "general.size_label": _size_label(model),
        **{f"{model.architecture}.{key}": value for key, value in model.metadata.items()},
        **vocabulary.metadata(),
        "general.quantization_version": gguf.GGML_QUANT_VERSION,
        "general.file_type": file_type(name),
    }


def _size_label(model: ModelMap) -> str:
    """Such as ``2.6B``, or ``128x2.4B`` for experts: what one expert and all that is no expert's have together."""
    stacks = [tensor for tensor in model.tensors if len(tensor.shape) == 3]
    total = sum(tensor.elements for tensor in model.tensors)
    shared = total - sum(tensor.elements for tensor in stacks)
    one_expert = sum(tensor.elements // tensor.shape[0] for tensor in stacks)
    label: str = gguf.size_label(total, shared, one_expert, stacks[0].shape[0] if stacks else 0)
    return label


def _printable(name: str) -> str:
    return name.encode(errors="replace").decode()


def _write_header(path: Path, architecture: str, metadata: dict[str, Any], plan: list[_Planned]) -> None:
    writer = gguf.GGUFWriter(path, architecture)
    try:
        for key, value in metadata.items():
            _add(writer, key, value)
        for item in plan:
            # the writer turns a shape in bytes back into one in values
            writer.add_tensor_info(item.tensor.name, item.shape, np.dtype(np.uint8), item.bytes, item.kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
    finally:
        writer.close()


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    """Write a key with the GGUF type that llama.cpp reads: unsigned for numbers, signed inside arrays."""
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def _write_tensors(path: Path, plan: list[_Planned], progress: Progress, threads: int | None) -> None:
    total = sum(item.bytes for item in plan)
    done = 0
    with path.open("ab") as stream:
        _pad(stream)
        for block, last in encode_all(((item.tensor, item.kind) for item in plan), threads):
            stream.write(block.data)
            done += block.nbytes
            progress(done, total)
            if last:
                _pad(stream)
        stream.flush()
        os.fsync(stream.fileno())


def _pad(stream: Any) -> None:
    stream.write(bytes(-stream.tell() % gguf.GGUF_DEFAULT_ALIGNMENT))
