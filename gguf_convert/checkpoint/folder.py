"""A Hugging Face checkpoint folder: ``config.json`` and its safetensors files, one or several.

No code from a checkpoint is run: pickle files are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gguf_convert.checkpoint.json_fields import Fields, read_json_object, shorten
from gguf_convert.checkpoint.safetensors import CheckpointTensor, read_safetensors
from localspec.errors import ConvertError

_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


@dataclass(frozen=True)
class Checkpoint:
    """Folder, configuration, and tensors by name."""

    path: Path
    config: Fields
    tensors: Mapping[str, CheckpointTensor]


def open_checkpoint(path: Path) -> Checkpoint:
    """Read ``config.json`` and the headers of the tensor files.

    Raises ConvertError if a file is missing or damaged, or the weights exist only as pickle.
    """
    if not path.is_dir():
        hint = "it is a file" if path.exists() else "no such folder"
        raise ConvertError(f"{path} is not a checkpoint folder ({hint}): give the folder that holds config.json.")
    if not (path / "config.json").is_file():
        raise ConvertError(f"{path} has no config.json: give the folder of a Hugging Face checkpoint.")
    return Checkpoint(path, read_json_object(path / "config.json"), _open_tensors(path))


def _open_tensors(path: Path) -> dict[str, CheckpointTensor]:
    if (path / _SINGLE).is_file():
        return read_safetensors(path / _SINGLE)
    if (path / _INDEX).is_file():
        return _open_shards(path)
    if found := sorted(file.name for pattern in _PICKLES for file in path.glob(pattern)):
        raise ConvertError(
            f"{path} holds its weights only as pickle ({found[0]}), which can run code when loaded: "
            f"get the checkpoint as {_SINGLE}."
        )
    raise ConvertError(f"{path} has neither {_SINGLE} nor {_INDEX}: download the weights of the checkpoint.")


def _open_shards(path: Path) -> dict[str, CheckpointTensor]:
    index = read_json_object(path / _INDEX)
    weight_map = index.object("weight_map").values
    shards: dict[str, dict[str, CheckpointTensor]] = {}
    tensors: dict[str, CheckpointTensor] = {}
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or not re.fullmatch(r"[\w.-]+\.safetensors", shard, re.ASCII):
            raise ConvertError(
                f"{_INDEX} names {shorten(shard)} as the file of {shorten(name)}: expected a .safetensors file name."
            )
        if shard not in shards:
            if not (path / shard).is_file():
                raise ConvertError(f"{path} lacks {shard}, which {_INDEX} lists: download the missing shard.")
            shards[shard] = read_safetensors(path / shard)
        if name not in shards[shard]:
            raise ConvertError(
                f"{shard} does not hold {shorten(name)} although {_INDEX} lists it: download the checkpoint again."
            )
        tensors[name] = shards[shard][name]
    return tensors
