"""Writes the folders of the layout: a checkpoint in BF16 with its tokenizer, and ``expected.npz``."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast

FOLDER = Path(__file__).resolve().parents[3] / "tests" / "gguf_convert" / "reference"


def save_checkpoint(
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
    *,
    shards: int = 1,
    text_config: Mapping[str, Any] | None = None,
) -> None:
    """A complete Hugging Face folder in BF16, written anew; ``shards`` files with an index if more than one.

    ``text_config`` adds to that part of the configuration what the real checkpoint says and transformers does not.
    """
    shutil.rmtree(folder, ignore_errors=True)
    copy.deepcopy(model).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if shards > 1:
        _shard(folder, shards)
    if text_config:
        config = json.loads((folder / "config.json").read_text())
        config["text_config"] = {**text_config, **config["text_config"]}
        (folder / "config.json").write_text(json.dumps(config))
    for path in folder.glob("*.json"):
        path.write_text(json.dumps(json.loads(path.read_text()), ensure_ascii=False, separators=(",", ":")) + "\n")


def _shard(folder: Path, count: int) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    weight_map = {}
    for number in range(count):
        part = sorted(tensors)[number::count]
        shard = f"model-{number + 1:05d}-of-{count:05d}.safetensors"
        save_file({name: tensors[name] for name in part}, folder / shard, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(part, shard))
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def save_expected(folder: Path, label: str, tokens: list[int], **arrays: Any) -> None:
    """``expected.npz``, see :func:`save_arrays`."""
    save_arrays(folder / "expected.npz", label=label, tokens=tokens, **arrays)


def save_arrays(path: Path, **arrays: Any) -> None:
    """Write arrays with floats as F32 and integers as int32."""
    stored: dict[str, Any] = {key: _narrow(np.asarray(value)) for key, value in arrays.items()}
    np.savez_compressed(path, **stored)


def _narrow(values: np.ndarray) -> np.ndarray:
    return values.astype({"f": np.float32, "i": np.int32}.get(values.dtype.kind, values.dtype))
