"""Laws of the converted file: every tensor is there, with the values of the source as far as its type can hold them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf.quants import dequantize, quantize

import gguf_convert
from gguf_convert.arch.gemma4 import _LAYER_NAMES, UNROTATED
from gguf_convert.checking.rounding import largest_errors
from gguf_convert.conversion import DIRECT
from localspec.errors import ConvertError
from tests.helpers import tiny_checkpoint as tiny

TYPES = gguf.GGMLQuantizationType
TOP_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.embed_tokens_per_layer.weight": "per_layer_token_embd.weight",
    "model.per_layer_model_projection.weight": "per_layer_model_proj.weight",
    "model.per_layer_projection_norm.weight": "per_layer_proj_norm.weight",
    "model.norm.weight": "output_norm.weight",
    "pre_projection.weight": "nextn.pre_projection.weight",
    "post_projection.weight": "nextn.post_projection.weight",
}


def gguf_name(name: str) -> str:
    if name in TOP_NAMES:
        return TOP_NAMES[name]
    index, suffix = name.removeprefix("model.layers.").split(".", 1)
    return f"blk.{index}.{_LAYER_NAMES[suffix]}"


def read(path: Path) -> dict[str, Any]:
    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


def values(tensor: Any) -> np.ndarray:
    shape = tuple(reversed(tensor.shape.tolist()))
    return dequantize(np.ascontiguousarray(tensor.data), tensor.tensor_type).reshape(shape)


@pytest.mark.parametrize("kind", DIRECT)
@pytest.mark.parametrize("config", [tiny.text_config(), tiny.assistant_config()], ids=["target", "assistant"])
def test_every_tensor_within_the_bound_of_its_type(tmp_path: Path, config: dict[str, Any], kind: str) -> None:
    source = tiny.write(tmp_path / "in", config)
    report = gguf_convert.convert(tmp_path / "in", tmp_path / "out.gguf", kind)
    stored = read(tmp_path / "out.gguf")
    assert stored.keys() == {gguf_name(name) for name in source} | {"rope_freqs.weight"}
    assert report.tensors == len(stored)
    for name, expected in source.items():
        tensor = stored[gguf_name(name)]
        assert tensor.tensor_type == (TYPES.F32 if expected.ndim < 2 else TYPES[kind])
        error = np.abs(values(tensor) - expected)
        assert (error <= largest_errors(expected, tensor.tensor_type.name)).all()
    checked = gguf_convert.check(tmp_path / "in", tmp_path / "out.gguf")
    assert checked.tensors == len(stored)
    assert max(checked.worst.values()) <= 1.0


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0"])
def test_quantised_bytes_equal_gguf_quants(tmp_path: Path, kind: str) -> None:
    source = tiny.write(tmp_path / "in")
    gguf_convert.convert(tmp_path / "in", tmp_path / "out.gguf", kind)
    stored = read(tmp_path / "out.gguf")
    for name, expected in source.items():
        if expected.ndim == 2:
            np.testing.assert_array_equal(stored[gguf_name(name)].data, quantize(expected, TYPES[kind]))


def test_block_size_of_reading_does_not_change_the_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.write(tmp_path / "in")
    gguf_convert.convert(tmp_path / "in", tmp_path / "whole.gguf", "Q4_0")
    monkeypatch.setattr("gguf_convert.tensors.BLOCK_ELEMENTS", 100)
    gguf_convert.convert(tmp_path / "in", tmp_path / "blocks.gguf", "Q4_0")
    assert (tmp_path / "whole.gguf").read_bytes() == (tmp_path / "blocks.gguf").read_bytes()


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_half_precision_sources_are_exact_in_f32(tmp_path: Path, dtype: str) -> None:
    source = tiny.write(tmp_path / "in", dtype=dtype)
    gguf_convert.convert(tmp_path / "in", tmp_path / "out.gguf", "F32")
    stored = read(tmp_path / "out.gguf")
    for name, full in source.items():
        half = full.astype("f2").astype("f4")
        if dtype == "BF16":
            half = (tiny.to_bfloat16(full).astype("u4") << 16).view("f4")
        np.testing.assert_array_equal(values(stored[gguf_name(name)]), half)


def test_shards_give_the_same_file_as_one(tmp_path: Path) -> None:
    source = tiny.write(tmp_path / "model")
    gguf_convert.convert(tmp_path / "model", tmp_path / "one.gguf")
    (tmp_path / "model" / "model.safetensors").unlink()
    weight_map = {}
    for number, names in enumerate((list(source)[::2], list(source)[1::2])):
        shard = f"model-{number}.safetensors"
        (tmp_path / "model" / shard).write_bytes(tiny.safetensors_bytes({name: source[name] for name in names}))
        weight_map.update(dict.fromkeys(names, shard))
    tiny.write_json(tmp_path / "model" / "model.safetensors.index.json", {"weight_map": weight_map})
    gguf_convert.convert(tmp_path / "model", tmp_path / "many.gguf")
    assert (tmp_path / "one.gguf").read_bytes() == (tmp_path / "many.gguf").read_bytes()


def test_rows_not_of_whole_blocks_fall_back_with_a_reason(tmp_path: Path) -> None:
    tiny.write(tmp_path / "in", tiny.text_config(hidden_size_per_layer_input=24))
    report = gguf_convert.convert(tmp_path / "in", tmp_path / "out.gguf", "Q8_0")
    assert {fallback.tensor for fallback in report.fallbacks} == {f"blk.{i}.proj.weight" for i in range(4)}
    assert all("24 values" in fallback.reason for fallback in report.fallbacks)
    assert read(tmp_path / "out.gguf")["blk.0.proj.weight"].tensor_type == TYPES.F16
    gguf_convert.check(tmp_path / "in", tmp_path / "out.gguf")


def test_rope_factors_turn_only_the_rotated_part(tmp_path: Path) -> None:
    tiny.write(tmp_path / "in")
    gguf_convert.convert(tmp_path / "in", tmp_path / "out.gguf")
    factors = read(tmp_path / "out.gguf")["rope_freqs.weight"].data
    np.testing.assert_array_equal(factors, np.array([1.0] * 8 + [UNROTATED] * 24, dtype="f4"))


@pytest.mark.parametrize("kind", DIRECT)
def test_check_finds_one_changed_value(tmp_path: Path, kind: str) -> None:
    source = tiny.write(tmp_path / "in")
    gguf_convert.convert(tmp_path / "in", tmp_path / "out.gguf", kind)
    source["model.layers.2.mlp.up_proj.weight"][5, 7] += 1.0
    tiny.write(tmp_path / "in", weights=source)
    with pytest.raises(ConvertError, match=r"blk\.2\.ffn_up\.weight differs"):
        gguf_convert.check(tmp_path / "in", tmp_path / "out.gguf")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_refuses_nan_and_infinity(tmp_path: Path, value: float) -> None:
    weights = tiny.tensors(tiny.text_config())
    weights["model.layers.1.mlp.down_proj.weight"][3, 3] = value
    tiny.write(tmp_path / "in", weights=weights)
    with pytest.raises(ConvertError, match=r"blk\.1\.ffn_down\.weight holds NaN or infinity"):
        gguf_convert.convert(tmp_path / "in", tmp_path / "out.gguf")
    assert not (tmp_path / "out.gguf").exists()


@pytest.mark.parametrize(("kind", "fits"), [("F16", False), ("Q8_0", True), ("Q4_0", True), ("BF16", True)])
def test_refuses_values_too_large_for_the_type(tmp_path: Path, kind: str, fits: bool) -> None:
    weights = tiny.tensors(tiny.text_config())
    weights["model.layers.1.mlp.down_proj.weight"][3, 3] = 1e5
    tiny.write(tmp_path / "in", weights=weights)
    if fits:
        gguf_convert.convert(tmp_path / "in", tmp_path / "out.gguf", kind)
        gguf_convert.check(tmp_path / "in", tmp_path / "out.gguf")
    else:
        with pytest.raises(ConvertError, match="too large for F16: use --type BF16"):
            gguf_convert.convert(tmp_path / "in", tmp_path / "out.gguf", kind)
