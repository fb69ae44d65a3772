"""Checkpoint folder → GGUF file: read, map, write.

The file appears under its name only when it is complete: it is written as ``<name>.partial`` beside it, synced,
then renamed; whatever goes wrong, nothing is left behind.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from gguf_convert.arch import ModelMap, map_checkpoint
from gguf_convert.checkpoint import Checkpoint, open_checkpoint
from gguf_convert.quantize import Fallback, byte_shape, choose_type, encoded, file_type, type_name
from gguf_convert.tensors import ModelTensor
from gguf_convert.tokenizer import Vocabulary, read_vocabulary
from localspec.errors import ConvertError

Progress = Callable[[int, int], None]
"""Called with (bytes of tensors written, bytes in all)."""

_SLACK = 1 << 20  # header alignment and the like, when asking whether the disk has room


@dataclass(frozen=True)
class Report:
    """What was written. ``tensors`` counts them; ``bytes`` is the size of the file.

    ``notes`` are sentences about what was left out, and where the file will behave differently from the checkpoint.
    """

    path: Path
    architecture: str
    type: str
    tensors: int
    bytes: int
    fallbacks: tuple[Fallback, ...]
    notes: tuple[str, ...]


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
    type: str = "Q8_0",
    *,
    progress: Progress | None = None,
    force: bool = False,
) -> Report:
    """Convert a Hugging Face checkpoint folder to one GGUF file.

    ``type`` is one of ``gguf_convert.TYPES`` in any case. An existing file is replaced only with ``force``.
    Raises ConvertError (or UsageError for an unknown type) and then leaves no file behind.
    """
    name = type_name(type)
    out = Path(out_path)
    _check_destination(out, force)
    checkpoint = open_checkpoint(Path(checkpoint_dir))
    model = map_checkpoint(checkpoint)
    vocabulary = read_vocabulary(checkpoint.path, model.vocab_rows)
    metadata = _metadata(checkpoint, model, vocabulary, name)
    plan, fallbacks = _plan(model, name)
    _check_room(out, plan)
    with _replaced_when_done(out) as partial:
        _write_header(partial, model.architecture, metadata, plan)
        _write_tensors(partial, plan, progress or _silent)
    size = out.stat().st_size
    notes = (*model.notes, *vocabulary.notes)
    return Report(out, model.architecture, name, len(plan), size, tuple(fallbacks), notes)


def _silent(done: int, total: int) -> None:
    pass


def _check_destination(out: Path, force: bool) -> None:
    if out.is_dir():
        raise ConvertError(f"{out} is a folder: give the name of the GGUF file to write.")
    if not out.parent.is_dir():
        raise ConvertError(f"The folder {out.parent} does not exist: create it first.")
    if out.exists() and not force:
        raise ConvertError(f"{out} exists: choose another name, or replace it with --force.")


def _plan(model: ModelMap, name: str) -> tuple[list[_Planned], list[Fallback]]:
    plan, fallbacks = [], []
    for tensor in model.tensors:
        kind, fallback = choose_type(tensor, name)
        plan.append(_Planned(tensor, kind, byte_shape(tensor, kind)))
        if fallback is not None:
            fallbacks.append(fallback)
    return plan, fallbacks


def _check_room(out: Path, plan: list[_Planned]) -> None:
    needed = sum(item.bytes for item in plan) + _SLACK
    free = shutil.disk_usage(out.parent).free
    if needed > free:
        raise ConvertError(
            f"{out} needs {needed / 1e9:.1f} GB but {out.parent} has {free / 1e9:.1f} GB free: "
            "make room or choose a smaller type."
        )


@contextmanager
def _replaced_when_done(out: Path) -> Iterator[Path]:
    partial = out.with_name(out.name + ".partial")
    try:
        yield partial
        os.replace(partial, out)
    except OSError as error:
        raise ConvertError(f"Cannot write {out}: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _metadata(checkpoint: Checkpoint, model: ModelMap, vocabulary: Vocabulary, name: str) -> dict[str, Any]:
    parameters = sum(tensor.elements for tensor in model.tensors)
    return {
        "general.type": "model",
        "general.name": _printable(checkpoint.path.resolve().name),
        "general.size_label": gguf.size_label(parameters, parameters, 0, 0),
        **{f"{model.architecture}.{key}": value for key, value in model.metadata.items()},
        **vocabulary.metadata(),
        "general.quantization_version": gguf.GGML_QUANT_VERSION,
        "general.file_type": file_type(name),
    }


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


def _write_tensors(path: Path, plan: list[_Planned], progress: Progress) -> None:
    total = sum(item.bytes for item in plan)
    done = 0
    with path.open("ab") as stream:
        _pad(stream)
        for item in plan:
            for block in encoded(item.tensor, item.kind):
                stream.write(block.data)
                done += block.nbytes
                progress(done, total)
            _pad(stream)
        stream.flush()
        os.fsync(stream.fileno())


def _pad(stream: Any) -> None:
    stream.write(bytes(-stream.tell() % gguf.GGUF_DEFAULT_ALIGNMENT))
