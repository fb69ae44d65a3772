"""Laws of projectors: tensors equal those of llama.cpp's own converter, byte for byte, and bad input is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import gguf_convert
from localspec.errors import ConvertError, UsageError
from tests.helpers.paths import PROJECTORS, REFERENCE

KINDS = ("gemma4_e2b", "gemma4_31b", "gemma4_12b", "gemma3_4b")


def stored(path: Path) -> dict[str, list[Any]]:
    return {
        tensor.name: [tensor.tensor_type.name, tensor.shape.tolist(), hashlib.sha256(tensor.data.tobytes()).hexdigest()]
        for tensor in gguf.GGUFReader(path).tensors
    }


def changed(kind: str, folder: Path, part: str, **values: Any) -> Path:
    """Return a copy of a checkpoint with other values in a part of its configuration."""
    copy = folder / kind
    shutil.copytree(PROJECTORS / kind, copy)
    config = json.loads((copy / "config.json").read_text())
    config[part] = {**config[part], **values}
    (copy / "config.json").write_text(json.dumps(config))
    return copy


@pytest.mark.parametrize("type_", ["f16", "q8_0"])
@pytest.mark.parametrize("kind", KINDS)
def test_tensors_equal_llama_cpps(tmp_path: Path, kind: str, type_: str) -> None:
    """Except softplus, in which torch differs from itself in the last bit, by the length of the tensor."""
    theirs = json.loads((PROJECTORS / kind / "llama_cpp.json").read_text())[type_]
    gguf_convert.convert_projector(PROJECTORS / kind, tmp_path / "mmproj.gguf", type_)
    ours = stored(tmp_path / "mmproj.gguf")
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        compared = 2 if name.endswith("per_dim_scale.weight") else 3
        assert ours[name][:compared] == expected[:compared], name


@pytest.mark.parametrize("kind", KINDS)
def test_check_accepts_every_type(tmp_path: Path, kind: str) -> None:
    for type_ in gguf_convert.PROJECTOR_TYPES:
        out = tmp_path / f"{type_}.gguf"
        report = gguf_convert.convert_projector(PROJECTORS / kind, out, type_)
        assert gguf_convert.check(PROJECTORS / kind, out, projector=True).tensors == report.tensors
        assert report.bytes == out.stat().st_size


def test_check_finds_a_changed_value(tmp_path: Path) -> None:
    out = tmp_path / "mmproj.gguf"
    gguf_convert.convert_projector(PROJECTORS / "gemma4_31b", out, "F32")
    data = bytearray(out.read_bytes())
    data[-8:-4] = np.float32(1e3).tobytes()
    out.write_bytes(data)
    with pytest.raises(ConvertError, match="differs from the checkpoint"):
        gguf_convert.check(PROJECTORS / "gemma4_31b", out, projector=True)


def test_keys_are_llama_cpps(tmp_path: Path) -> None:
    """And the activation, without which llama.cpp computes another one than transformers."""
    gguf_convert.convert_projector(PROJECTORS / "gemma4_e2b", tmp_path / "mmproj.gguf", "Q8_0")
    fields = gguf.GGUFReader(tmp_path / "mmproj.gguf").fields
    expected = {
        "general.architecture": "clip", "general.type": "mmproj", "general.file_type": 7,
        "clip.has_vision_encoder": True, "clip.vision.projector_type": "gemma4v", "clip.vision.projection_dim": 32,
        "clip.vision.image_size": 224, "clip.vision.patch_size": 16, "clip.vision.embedding_length": 32,
        "clip.vision.feed_forward_length": 64, "clip.vision.block_count": 2, "clip.vision.attention.head_count": 2,
        "clip.vision.image_mean": [0.0] * 3, "clip.vision.image_std": [1.0] * 3, "clip.has_audio_encoder": True,
        "clip.audio.projector_type": "gemma4a", "clip.audio.projection_dim": 32, "clip.audio.embedding_length": 32,
        "clip.audio.feed_forward_length": 128, "clip.audio.block_count": 2, "clip.audio.attention.head_count": 2,
        "clip.audio.num_mel_bins": 128, "clip.use_gelu": True,
    }  # fmt: skip
    assert {key: fields[key].contents() for key in expected} == expected
    assert "clip.vision.projector.scale_factor" not in fields


def test_another_pooling_and_activation_are_written(tmp_path: Path) -> None:
    """llama.cpp computes quick_gelu unless the file says gelu."""
    source = changed("gemma4_31b", tmp_path, "vision_config", pooling_kernel_size=1, hidden_activation="quick_gelu")
    gguf_convert.convert_projector(source, tmp_path / "mmproj.gguf")
    fields = gguf.GGUFReader(tmp_path / "mmproj.gguf").fields
    assert fields["clip.vision.projector.scale_factor"].contents() == 1
    assert "clip.use_gelu" not in fields


@pytest.mark.parametrize(
    ("kind", "part", "values", "named"),
    [
        ("gemma4_31b", "vision_config", {"hidden_size": 48}, "head_dim"),
        ("gemma4_31b", "vision_config", {"patch_size": 14}, "patch_embedder"),
        ("gemma4_31b", "vision_config", {"attention_bias": True}, "attention_bias"),
        ("gemma4_31b", "vision_config", {"hidden_activation": "relu"}, "hidden_activation"),
        ("gemma4_31b", "vision_config", {"rope_parameters": {"rope_theta": 50.0}}, "rope_theta"),
        ("gemma4_31b", "vision_config", {"num_hidden_layers": 3}, r"layers\.2"),
        ("gemma4_31b", "vision_config", {"num_hidden_layers": 1}, r"layers\.1"),
        ("gemma4_e2b", "audio_config", {"attention_chunk_size": 10}, "attention_chunk_size"),
        ("gemma4_e2b", "audio_config", {"hidden_act": "gelu"}, "hidden_act"),
        ("gemma4_e2b", "audio_config", {"subsampling_conv_channels": [128]}, "subsampling_conv_channels"),
        ("gemma4_12b", "audio_config", {"audio_embed_dim": 320}, "audio_embed_dim"),
        ("gemma3_4b", "vision_config", {"image_size": 100}, "patches of 14"),
        ("gemma3_4b", "vision_config", {"hidden_act": "relu"}, "hidden_act"),
    ],
)
def test_refuses_what_llama_cpp_computes_otherwise(
    tmp_path: Path, kind: str, part: str, values: dict[str, Any], named: str
) -> None:
    out = tmp_path / "mmproj.gguf"
    with pytest.raises(ConvertError, match=named):
        gguf_convert.convert_projector(changed(kind, tmp_path, part, **values), out)
    assert not out.exists()


@pytest.mark.parametrize("colours", ["grey", [0.5], [0.5, None, 0.5], [True, 0, 0]])
def test_refuses_colours_that_are_no_numbers(tmp_path: Path, colours: object) -> None:
    source = changed("gemma4_31b", tmp_path, "vision_config")
    (source / "preprocessor_config.json").write_text(json.dumps({"image_mean": colours}))
    with pytest.raises(ConvertError, match="image_mean"):
        gguf_convert.convert_projector(source, tmp_path / "mmproj.gguf")


def test_refuses_a_checkpoint_without_encoders_and_other_types(tmp_path: Path) -> None:
    out = tmp_path / "mmproj.gguf"
    with pytest.raises(ConvertError, match="no part for pictures"):
        gguf_convert.convert_projector(REFERENCE / "qwen2_5_7b", out)
    with pytest.raises(UsageError, match="Q4_0"):
        gguf_convert.convert_projector(PROJECTORS / "gemma4_31b", out, "Q4_0")
    out.write_bytes(b"")
    with pytest.raises(ConvertError, match="--force"):
        gguf_convert.convert_projector(PROJECTORS / "gemma4_31b", out)
