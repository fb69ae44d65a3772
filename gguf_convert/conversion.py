"""Convert a checkpoint folder to a GGUF file: read, map, write.

The file appears under its name only when it is complete (:mod:`gguf_convert.output.files`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gguf

from gguf_convert.arch import ModelMap, map_checkpoint
from gguf_convert.checkpoint.folder import Checkpoint, open_checkpoint
from gguf_convert.output.files import check_destination, check_space, replaced_when_done, work_folder
from gguf_convert.output.gguf_file import write_gguf
from gguf_convert.output.tensor_types import choose_types
from gguf_convert.recipes import Recipe, expected_bytes, make_recipe
from gguf_convert.report import Report, inexact_notes
from gguf_convert.tokenizer import GgufVocabulary, read_vocabulary
from localspec.gguf.types import FILE_TYPES
from localspec.types import Progress

#: Types that are written directly. The others need llama.cpp's quantiser, which reads a file of floats.
DIRECT = ("F32", "F16", "BF16", "Q8_0", "Q4_0")


@dataclass(frozen=True)
class MappedCheckpoint:
    """A checkpoint with its model and its tokenizer as GGUF; ``float_type`` holds every matrix without loss."""

    name: str
    model: ModelMap
    vocabulary: GgufVocabulary
    float_type: str

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the user."""
        return (*self.model.notes, *self.vocabulary.notes)

    def metadata(self, file_type: str) -> dict[str, Any]:
        """Return all keys of a file of this type but the architecture."""
        architecture = self.model.architecture
        return {
            "general.type": "model",
            "general.name": self.name,
            "general.size_label": _size_label(self.model),
            **{f"{architecture}.{key}": value for key, value in self.model.metadata.items()},
            **self.vocabulary.metadata(),
            "general.quantization_version": gguf.GGML_QUANT_VERSION,
            "general.file_type": FILE_TYPES[file_type],
        }


def read_checkpoint(path: str | os.PathLike[str]) -> MappedCheckpoint:
    """Read configuration, tokenizer and tensor shapes. Raises ConvertError for what cannot be converted."""
    checkpoint = open_checkpoint(Path(path))
    model = map_checkpoint(checkpoint)
    vocabulary = read_vocabulary(checkpoint.path, model.vocab_rows)
    name = checkpoint.path.resolve().name.encode(errors="replace").decode()
    return MappedCheckpoint(name, model, vocabulary, _float_type(checkpoint))


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

    ``type`` is one of ``gguf_convert.TYPES`` in any case; it defaults to Q8_0, unless ``role`` ("target", "drafter") or
    ``exact`` selects a recipe (:func:`gguf_convert.recipes.make_recipe`). ``imatrix`` is an importance matrix for
    llama.cpp's quantiser, ``threads`` its number of threads (None: one for each core). ``progress`` is called with
    (bytes written, bytes in all). An existing file is replaced only with ``force``.
    Raises ConvertError (UsageError for an unknown type) and then leaves no file behind.
    """
    recipe = make_recipe(type or (None if role or exact else "Q8_0"), role=role, exact=exact)
    out = Path(out_path)
    check_destination(out, force)
    source = read_checkpoint(checkpoint_dir)
    if recipe.type in DIRECT and imatrix is None:
        return _write(out, source, recipe, progress, threads)
    return _write_and_quantize(out, source, recipe, imatrix, threads, progress)


def _write(
    out: Path, source: MappedCheckpoint, recipe: Recipe, progress: Progress | None, threads: int | None
) -> Report:
    tensors, fallbacks = choose_types(source.model.tensors, recipe)
    check_space(out, sum(tensor.bytes for tensor in tensors))
    architecture = source.model.architecture
    with replaced_when_done(out) as partial:
        write_gguf(partial, architecture, source.metadata(recipe.type), tensors, progress, threads)
    notes = (*source.notes, *(inexact_notes(fallbacks) if recipe.exact else ()))
    return Report(out, architecture, recipe.label, len(tensors), out.stat().st_size, tuple(fallbacks), notes)


def _write_and_quantize(
    out: Path,
    source: MappedCheckpoint,
    recipe: Recipe,
    imatrix: str | os.PathLike[str] | None,
    threads: int | None,
    progress: Progress | None,
) -> Report:
    """Write a temporary file of floats and quantise it."""
    from gguf_convert.quantization.quantize import QuantizeProgress, quantize_with

    floats = make_recipe(source.float_type)
    float_bytes = sum(tensor.bytes for tensor in choose_types(source.model.tensors, floats)[0])
    quantized_bytes = expected_bytes(recipe, sum(tensor.elements for tensor in source.model.tensors))
    total = float_bytes + quantized_bytes
    check_space(out, total)

    def report(done: int) -> None:
        if progress is not None:
            progress(done, total)

    def quantizing(at: QuantizeProgress) -> None:
        report(float_bytes + quantized_bytes * at.bytes // max(1, at.all_bytes))

    with work_folder(out) as folder:
        whole = folder / f"{out.stem}-{floats.type}.gguf"
        _write(whole, source, floats, lambda done, _: report(done), threads)
        made = quantize_with(recipe, whole, out, imatrix=imatrix, threads=threads, progress=quantizing)
    return replace(made, notes=(*source.notes, *made.notes))


def _float_type(checkpoint: Checkpoint) -> str:
    """Return the narrowest float type that holds every matrix without loss."""
    types = {tensor.dtype for tensor in checkpoint.tensors.values() if len(tensor.shape) > 1}
    return types.pop() if len(types) == 1 and types <= {"BF16", "F16"} else "F32"


def _size_label(model: ModelMap) -> str:
    """Return the label ``2.6B``, or ``128x2.4B`` for experts: the size of one expert plus all that is shared."""
    stacks = [tensor for tensor in model.tensors if len(tensor.shape) == 3]
    total = sum(tensor.elements for tensor in model.tensors)
    shared = total - sum(tensor.elements for tensor in stacks)
    one_expert = sum(tensor.elements // tensor.shape[0] for tensor in stacks)
    label: str = gguf.size_label(total, shared, one_expert, stacks[0].shape[0] if stacks else 0)
    return label
