"""GGUF files with random weights, written as fast as the disk takes them.

A few rows of every width are quantised by ggml itself and repeated at random offsets: the time of a pass and the
rounding of its sums do not depend on more.
"""

from __future__ import annotations

import re
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from gguf_convert.arch import map_checkpoint
from gguf_convert.checkpoint.folder import Checkpoint
from gguf_convert.checkpoint.json_fields import Fields
from gguf_convert.checkpoint.safetensors import CheckpointTensor
from gguf_convert.conversion import MappedCheckpoint
from gguf_convert.output.encode import Packed, encode_rows
from gguf_convert.output.gguf_file import _pad, write_header
from gguf_convert.output.tensor_types import OutputTensor, choose_type
from gguf_convert.recipes import Recipe, make_recipe
from gguf_convert.tensors import ArraySource
from gguf_convert.tokenizer import GgufVocabulary, read_vocabulary
from scripts.check import exact_rows
from scripts.check.gpu_check.shapes import Shape, assistant_config, target_config, tensor_shapes
from tests.helpers import tiny_checkpoint as tiny

#: File types that are made: llama-quantize's, with the head and the embedding in Q6_K.
TYPES = ("Q4_0", "Q4_K_M", "Q8_0", "F16")
#: Values of a width that are quantised, at least.
_POOL = 1 << 20
#: Scale of the embedding, and of the logits. Were the embedding as large as what the layers add, the head, which is the
#: same matrix, would repeat the last token.
_EMBEDDED, _LOGITS = 0.25, 4.0
_LAYER = re.compile(r"blk\.(\d+)\.(?:ffn_down|attn_v)")
_LOOKED_UP = re.compile(r"^per_layer_token_embd|^token_embd")


def write_target(path: Path, shape: Shape, kind: str) -> int:
    """Write a target of this file type. Returns its bytes."""
    return _write(path, target_config(shape), kind, shape.layers)


def write_assistant(path: Path, shape: Shape) -> int:
    """Write the assistant in Q4_0 throughout, as the published ones are."""
    return _write(path, assistant_config(shape), "drafter", 4)


def tensor_type(name: str, kind: str, layers: int) -> str | None:
    """The type that a matrix has in a file of this type, None for the type of the file.

    As llama-quantize has it: Q4_K_M gives half of the layers more bits, and a projection stays in float.
    """
    if kind == "drafter":
        return "Q4_0"
    if name.startswith("per_layer_model_proj"):
        return "F16"
    if _LOOKED_UP.search(name):
        return {"Q4_0": "Q6_K", "Q4_K_M": "Q6_K"}.get(kind, kind)
    if kind == "Q4_K_M":
        layer = _LAYER.match(name)
        more = layer and (int(layer[1]) < layers // 8 or int(layer[1]) >= 7 * layers // 8 or int(layer[1]) % 3 == 2)
        return "Q6_K" if more else "Q4_K"
    return None


def _write(path: Path, config: dict[str, Any], kind: str, layers: int) -> int:
    source = _mapped(config)
    file_type = "Q4_0" if kind == "drafter" else kind
    recipe = make_recipe(file_type)
    outputs = []
    for tensor in source.model.tensors:
        wanted = tensor_type(tensor.name, kind, layers) if not tensor.name.endswith("ffn_gate_inp.weight") else None
        chosen = Recipe(recipe.label, wanted or recipe.type, recipe.overrides)
        outputs.append(OutputTensor(tensor, choose_type(tensor, chosen)[0]))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_header(path, source.model.architecture, source.metadata(file_type), outputs)
    random = np.random.default_rng(0)
    with path.open("ab") as stream:
        _pad(stream)
        for output in outputs:
            _write_tensor(stream, output, random)
            _pad(stream)
    return path.stat().st_size


def _write_tensor(stream: Any, output: OutputTensor, random: np.random.Generator) -> None:
    if isinstance(output.tensor.source, ArraySource):
        values = output.tensor.source.rows(0, output.tensor.shape[0])
        stream.write(encode_rows(output.tensor.name, values, output.type).data)
        return
    name, shape = output.tensor.name, output.tensor.shape
    if len(shape) == 1:
        near_one = 1 + 0.1 * random.standard_normal(shape, np.float32)
        factor = _LOGITS / _EMBEDDED if name == "output_norm.weight" else 1.0
        stream.write(encode_rows(name, np.float32(factor) * near_one, output.type).data)
        return
    scale = _EMBEDDED if name == "token_embd.weight" else 1.0
    pool, left = _pool(output.type, shape[-1], scale), output.bytes
    row = pool.shape[1]
    while left:
        start = int(random.integers(len(pool)))
        piece = pool[start:].reshape(-1)[:left]
        stream.write(piece.data)
        left -= piece.nbytes
    assert output.bytes % row == 0


@cache
def _pool(kind: str, width: int, scale: float) -> Packed:
    """Rows of random values that keep activations near ``scale``, packed; shape (rows, bytes of a row)."""
    rows = -(-_POOL // width)
    factor = np.float32(scale * width**-0.5)
    values = np.random.default_rng(width).standard_normal((rows, width), np.float32) * factor
    return encode_rows("a random matrix", values, kind).reshape(rows, -1)


def _mapped(config: dict[str, Any]) -> MappedCheckpoint:
    """The converter's view of a checkpoint of this configuration, without values."""
    tensors = {
        name: CheckpointTensor(name, "BF16", shape, np.zeros(0, np.uint8))
        for name, shape in tensor_shapes(config).items()
    }
    model = map_checkpoint(Checkpoint(Path("."), Fields(config, "config.json"), tensors))
    return MappedCheckpoint("random", model, _vocabulary(config.get("text_config", config)["vocab_size"]), "BF16")


@cache
def _vocabulary(rows: int) -> GgufVocabulary:
    with tempfile.TemporaryDirectory() as name:
        tiny.write(Path(name) / "in", weights={}, vocabulary=exact_rows.vocabulary(rows))
        return read_vocabulary(Path(name) / "in", rows)
