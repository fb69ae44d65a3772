"""Checkpoints that lie, are cut off, or would run code are refused with one sentence and without an effect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gguf_convert
from gguf_convert.checkpoint.safetensors import read_safetensors
from localspec.errors import ConvertError
from tests.helpers import tiny_checkpoint as tiny

GOOD = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}


def refused(path: Path, content: bytes, match: str) -> None:
    path.write_bytes(content)
    with pytest.raises(ConvertError, match=match) as caught:
        read_safetensors(path)
    assert "\n" not in str(caught.value)


def test_reads_what_was_written(tmp_path: Path) -> None:
    source = {"a": np.arange(6, dtype="f4").reshape(2, 3), "b": np.ones(4, dtype="f4")}
    (tmp_path / "x.safetensors").write_bytes(tiny.safetensors_bytes(source))
    found = read_safetensors(tmp_path / "x.safetensors")
    assert {name: tensor.shape for name, tensor in found.items()} == {"a": (2, 3), "b": (4,)}
    np.testing.assert_array_equal(found["a"].rows(1, 2), source["a"][1:])


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 1 << 40, 101_000_000, 200])
def test_refuses_a_header_length_beyond_the_file(tmp_path: Path, length: int) -> None:
    refused(tmp_path / "x", tiny.raw_safetensors({"a": GOOD}, bytes(16), length), "announces a header")


@pytest.mark.parametrize("content", [b"", b"1234567"])
def test_refuses_a_file_without_a_header(tmp_path: Path, content: bytes) -> None:
    refused(tmp_path / "x", content, "bytes long")


@pytest.mark.parametrize(
    ("header", "match"),
    [
        (b"{", "not valid JSON"),
        (b"[1]", "does not hold a JSON object"),
        (b"\xff\xfe", "not UTF-8"),
        (b'{"a": 1, "a": 2}', "appears twice"),
        (b'{"a": ' + b"[" * 200_000, "nested too deeply"),
        (b'{"a": 5}', "has no description"),
    ],
)
def test_refuses_a_header_that_is_no_table(tmp_path: Path, header: bytes, match: str) -> None:
    refused(tmp_path / "x", tiny.raw_safetensors(header, bytes(16)), match)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"data_offsets": [0, 17]}, "cut off or damaged"),
        ({"data_offsets": [16, 0]}, "lies at bytes"),
        ({"data_offsets": [-16, 0]}, "offsets"),
        ({"data_offsets": [0]}, "offsets"),
        ({"data_offsets": [0, 2**70]}, "offsets"),
        ({"data_offsets": [0, 8]}, "8 bytes where"),
        ({"data_offsets": [False, 16]}, "offsets"),
        ({"shape": [2, -2]}, "shape"),
        ({"shape": [2, 2.0]}, "shape"),
        ({"shape": [2**62, 2**62]}, "16 bytes where"),
        ({"shape": [1] * 9}, "shape"),
        ({"shape": None}, "shape"),
        ({"dtype": "F31"}, "unknown type"),
        ({"dtype": ["F32"]}, "unknown type"),
    ],
)
def test_refuses_a_tensor_that_does_not_fit(tmp_path: Path, change: dict[str, Any], match: str) -> None:
    refused(tmp_path / "x", tiny.raw_safetensors({"a": {**GOOD, **change}}, bytes(16)), match)


def test_refuses_overlapping_tensors(tmp_path: Path) -> None:
    header = {"a": GOOD, "b": {**GOOD, "data_offsets": [8, 24]}}
    refused(tmp_path / "x", tiny.raw_safetensors(header, bytes(24)), "overlap")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_refused_or_harmless(tmp_path: Path, data: st.DataObject) -> None:
    """Changed or cut bytes give a ConvertError, or tensors that lie inside the file."""
    content = bytearray(tiny.safetensors_bytes({"a": np.ones((4, 4), "f4"), "b": np.ones(3, "f4")}))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "x"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        found = read_safetensors(path)
    except ConvertError:
        return
    for tensor in found.values():
        if tensor.shape and tensor.dtype in ("F32", "F16", "BF16"):
            assert tensor.rows(0, tensor.shape[0]).shape == tensor.shape


def test_a_truncated_checkpoint_leaves_nothing(tmp_path: Path) -> None:
    tiny.write(tmp_path / "in")
    weights = tmp_path / "in" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ConvertError, match="cut off"):
        gguf_convert.convert(tmp_path / "in", tmp_path / "out.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.pth", "model.pt"])
def test_refuses_pickle(tmp_path: Path, name: str) -> None:
    tiny.write(tmp_path / "in")
    (tmp_path / "in" / "model.safetensors").rename(tmp_path / "in" / name)
    with pytest.raises(ConvertError, match=f"only as pickle .{name}."):
        gguf_convert.convert(tmp_path / "in", tmp_path / "out.gguf")


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "model.safetensors"])
def test_names_the_missing_file(tmp_path: Path, missing: str) -> None:
    tiny.write(tmp_path / "in")
    (tmp_path / "in" / missing).unlink()
    with pytest.raises(ConvertError, match=missing):
        gguf_convert.convert(tmp_path / "in", tmp_path / "out.gguf")


@pytest.mark.parametrize(
    ("weight_map", "match"),
    [
        ({"a": "../model.safetensors"}, "expected a .safetensors file name"),
        ({"a": "/etc/passwd"}, "expected a .safetensors file name"),
        ({"a": 1}, "expected a .safetensors file name"),
        ({"a": "gone.safetensors"}, "lacks gone.safetensors"),
        ({"nobody": "shard.safetensors"}, "does not hold 'nobody'"),
        ([], "must be an object"),
    ],
)
def test_refuses_an_index_that_lies(tmp_path: Path, weight_map: Any, match: str) -> None:
    tiny.write(tmp_path / "in")
    (tmp_path / "in" / "model.safetensors").rename(tmp_path / "in" / "shard.safetensors")
    (tmp_path / "in" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(ConvertError, match=match):
        gguf_convert.convert(tmp_path / "in", tmp_path / "out.gguf")


def test_refuses_quantised_sources(tmp_path: Path) -> None:
    tiny.write(tmp_path / "in")
    content = (tmp_path / "in" / "model.safetensors").read_bytes()
    (tmp_path / "in" / "model.safetensors").write_bytes(content.replace(b'"F32"', b'"U32"', 1))
    with pytest.raises(ConvertError, match="has type U32"):
        gguf_convert.convert(tmp_path / "in", tmp_path / "out.gguf")
