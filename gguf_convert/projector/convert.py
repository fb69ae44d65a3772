"""Write the projector of a checkpoint: read, map, choose types, write."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf

from gguf_convert.checkpoint.folder import open_checkpoint
from gguf_convert.output.files import check_destination, check_space, replaced_when_done
from gguf_convert.output.gguf_file import write_gguf
from gguf_convert.output.tensor_types import OutputTensor
from gguf_convert.projector import map_projector
from gguf_convert.projector.towers import Projector
from gguf_convert.recipes import PROJECTOR_TYPES, file_type_name
from gguf_convert.report import Fallback, Report
from gguf_convert.tensors import ModelTensor
from localspec.errors import UsageError
from localspec.gguf.types import BLOCKS, FILE_TYPES, TENSOR_TYPES
from localspec.types import Progress

#: The first layer of a picture, which llama.cpp computes as a convolution.
_CONVOLUTION = "v.patch_embd.weight"


def convert_projector(
    checkpoint_dir: str | os.PathLike[str],
    out_path: str | os.PathLike[str],
    type: str = "F16",
    *,
    threads: int | None = None,
    progress: Progress | None = None,
    force: bool = False,
) -> Report:
    """Write the encoders of pictures and sound of a checkpoint to one GGUF file, which llama.cpp calls mmproj.

    ``type`` is one of ``PROJECTOR_TYPES``; ``progress`` is called with (bytes written, bytes in all). An existing file
    is replaced only with ``force``. Raises ConvertError (UsageError for another type) and then leaves no file behind.
    """
    kind = file_type_name(type)
    if kind not in PROJECTOR_TYPES:
        raise UsageError(f"A projector cannot be {kind}: choose {', '.join(PROJECTOR_TYPES[:-1])} or Q8_0.")
    out = Path(out_path)
    check_destination(out, force)
    checkpoint = open_checkpoint(Path(checkpoint_dir))
    projector = map_projector(checkpoint)
    tensors, fallbacks = projector_types(projector, kind)
    check_space(out, sum(tensor.bytes for tensor in tensors))
    name = checkpoint.path.resolve().name.encode(errors="replace").decode()
    with replaced_when_done(out) as partial:
        write_gguf(partial, "clip", _metadata(projector, name, kind), tensors, progress, threads)
    return Report(out, "clip", kind, len(tensors), out.stat().st_size, tuple(fallbacks), ())


def projector_types(projector: Projector, kind: str) -> tuple[list[OutputTensor], list[Fallback]]:
    """Return every tensor with the type that llama.cpp's converter gives it, and those with too short rows."""
    chosen = [OutputTensor(tensor, _type(tensor, projector, kind)) for tensor in projector.tensors]
    short = [output.tensor for output in chosen if output.type == "F16" and not _divides(output.tensor, kind)]
    reason = f"rows do not divide into blocks of {BLOCKS[TENSOR_TYPES[kind]][0]}"
    return chosen, [Fallback(tensor.name, "F16", reason) for tensor in short if tensor.name not in projector.fixed]


def _type(tensor: ModelTensor, projector: Projector, kind: str) -> str:
    if tensor.name in projector.fixed:
        return projector.fixed[tensor.name]
    if len(tensor.shape) < 2:
        return "F32"
    if tensor.name == _CONVOLUTION:
        return "F16" if kind == "F16" else "F32"
    return kind if _divides(tensor, kind) else "F16"


def _divides(tensor: ModelTensor, kind: str) -> bool:
    return tensor.shape[-1] % BLOCKS[TENSOR_TYPES[kind]][0] == 0


def _metadata(projector: Projector, name: str, kind: str) -> dict[str, Any]:
    return {
        "general.type": "mmproj",
        "general.name": name,
        "general.size_label": _size_label(projector.tensors),
        "general.file_type": FILE_TYPES[kind],
        **{f"clip.{key}": value for key, value in projector.metadata.items()},
        "general.quantization_version": gguf.GGML_QUANT_VERSION,
    }


def _size_label(tensors: Sequence[ModelTensor]) -> str:
    total = sum(tensor.elements for tensor in tensors)
    label: str = gguf.size_label(total, total, 0, 0)
    return label
