"""The memory of a conversion does not grow with the model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import gguf_convert
from gguf_convert.checkpoint.safetensors import FileBytes, read_safetensors
from localspec.errors import ConvertError
from tests.helpers import tiny_checkpoint as tiny

MIB = 1 << 20


def hollow(folder: Path, intermediate: int, layers: int = 4) -> int:
    """A sharded F16 checkpoint of zeros that takes no room on the disk; gives its bytes."""
    config = tiny.text_config(
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        layer_types=["sliding_attention", "full_attention"] * (layers // 2),
        use_double_wide_mlp=False,
        num_kv_shared_layers=0,
    )
    tiny.write(folder, {**config, "intermediate_size": 64, "num_hidden_layers": 2, "layer_types": tiny.LAYERS[:2]})
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "model.safetensors").unlink()
    shapes = {name: list(values.shape) for name, values in tiny.tensors({**config, "intermediate_size": 64}).items()}
    headers: list[dict[str, object]] = [{}, {}]
    sizes, weight_map = [0, 0], {}
    for i, (name, small) in enumerate(shapes.items()):
        shape = _shape(name, small, intermediate)
        size = 2
        for n in shape:
            size *= n
        shard = i % 2
        headers[shard][name] = {"dtype": "F16", "shape": shape, "data_offsets": [sizes[shard], sizes[shard] + size]}
        sizes[shard] += size
        weight_map[name] = f"model-{shard}.safetensors"
    for shard, header in enumerate(headers):
        path = folder / f"model-{shard}.safetensors"
        path.write_bytes(tiny.raw_safetensors(header, b""))
        os.truncate(path, path.stat().st_size + sizes[shard])
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
    return sum(sizes)


def _shape(name: str, small: list[int], intermediate: int) -> list[int]:
    if ".mlp.down" in name:
        return [small[0], intermediate]
    return [intermediate, small[1]] if ".mlp." in name else small


def peak(folder: Path, kind: str = "F16") -> int:
    """The most memory that a process has when it converts ``folder``, in bytes."""
    code = (
        "import re, sys, gguf_convert; gguf_convert.convert(sys.argv[1], sys.argv[2], sys.argv[3], force=True);"
        "print(re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1])"  # getrusage counts the parent's
    )
    line = [sys.executable, "-c", code, str(folder), str(folder.parent / "out.gguf"), kind]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    (folder.parent / "out.gguf").unlink()
    return int(done.stdout) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_peak_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    """A checkpoint of 100 MB, with tensors of 8 MB, takes hardly more than one of a few hundred kilobytes."""
    small = hollow(tmp_path / "small", 64)
    large = hollow(tmp_path / "large", 1 << 16)
    assert small < MIB
    assert large > 95 * MIB
    assert peak(tmp_path / "large") - peak(tmp_path / "small") < 64 * MIB


def test_file_cut_off_while_it_is_read_is_one_sentence(tmp_path: Path) -> None:
    """A mapped file would end the process (SIGBUS)."""
    tiny.write(tmp_path / "in")
    path = tmp_path / "in" / "model.safetensors"
    tensors = read_safetensors(path)
    os.truncate(path, 5000)
    with pytest.raises(ConvertError, match="was cut off while it was read"):
        [tensor.rows(0, tensor.shape[0]) for tensor in tensors.values()]
    path.unlink()
    with pytest.raises(ConvertError, match=r"Cannot read .*model\.safetensors: No such file"):
        [tensor.rows(0, tensor.shape[0]) for tensor in tensors.values()]


def test_slices_of_a_file_are_slices(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(range(100)))
    data = FileBytes(tmp_path / "x", 10, 50)
    for start, stop in ((0, 50), (3, 7), (48, 90), (7, 3), (50, 60)):
        assert bytes(data[start:stop]) == bytes(range(10, 60))[start:stop]


def test_checking_is_bounded_as_well(tmp_path: Path) -> None:
    """The converted values agree with the source."""
    hollow(tmp_path / "in", 1 << 10)
    gguf_convert.convert(tmp_path / "in", tmp_path / "out.gguf", "Q8_0")
    assert gguf_convert.check(tmp_path / "in", tmp_path / "out.gguf").tensors > 20
