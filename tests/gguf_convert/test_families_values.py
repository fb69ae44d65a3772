"""Laws of converted values: rows of Q and K, norms, rope factors, tied and untied heads."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gguf_convert
from gguf_convert.arch import map_checkpoint
from gguf_convert.arch.gemma3 import PlusOne
from gguf_convert.arch.llama import Interleaved
from gguf_convert.arch.rope import llama3_factors, read_rope
from gguf_convert.checkpoint.folder import open_checkpoint
from gguf_convert.checkpoint.json_fields import Fields
from gguf_convert.tensors import ArraySource, blocks
from localspec.errors import ConvertError
from tests.helpers import parity
from tests.helpers import tiny_checkpoint as tiny
from tests.helpers.official_configs import LLAMA_3_2_1B

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def rotate_halves(head: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """transformers' rope: value j goes with value j + half."""
    first, second = np.split(head, 2)
    return np.concatenate(
        [first * np.cos(angles) - second * np.sin(angles), second * np.cos(angles) + first * np.sin(angles)]
    )


def rotate_neighbours(head: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """llama.cpp's rope of Llama: value 2j goes with value 2j + 1."""
    even, odd = head[::2], head[1::2]
    pairs = [even * np.cos(angles) - odd * np.sin(angles), odd * np.cos(angles) + even * np.sin(angles)]
    return np.stack(pairs, axis=1).ravel()


@given(heads=st.integers(1, 4), half=st.integers(1, 6), seed=st.integers(0, 9))
def test_reordered_heads_rotated_by_llama_cpp_are_rotated_heads_reordered(heads: int, half: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    projected, angles = random.standard_normal((heads, 2 * half)), random.standard_normal(half)
    order = reordered(np.arange(heads * 2 * half), 2 * half).astype(int)
    for row, head in zip(projected.ravel()[order].reshape(heads, -1), projected, strict=True):
        expected = rotate_halves(head, angles)[order[: 2 * half]]
        assert np.allclose(rotate_neighbours(row, angles), expected)


def reordered(values: np.ndarray, head: int) -> np.ndarray:
    source = Interleaved(ArraySource(values.astype(np.float32)), head)
    return source.rows(0, len(values))


@given(heads=st.integers(1, 3), half=st.integers(1, 4), cut=st.tuples(st.integers(0, 30), st.integers(0, 30)))
def test_any_part_of_the_rows_is_that_part_of_all(heads: int, half: int, cut: tuple[int, int]) -> None:
    count = heads * 2 * half
    start, stop = sorted(min(end, count) for end in cut)
    values = ArraySource(np.random.default_rng(0).standard_normal((count, 3)).astype(np.float32))
    for source in (Interleaved(values, 2 * half), PlusOne(values)):
        assert np.array_equal(source.rows(start, stop), source.rows(0, count)[start:stop])
        assert np.array_equal(np.concatenate(list(blocks(source))), source.rows(0, count))


def test_a_norm_of_gemma_3_is_stored_with_its_one() -> None:
    weight = ArraySource(np.array([-1.0, 0.0, 0.25], np.float32))
    assert PlusOne(weight).rows(0, 3).tolist() == [0.0, 1.0, 1.25]


def test_rope_factors_stretch_long_waves_and_leave_short_ones() -> None:
    """Against the definition in transformers' ``_compute_llama3_parameters``, in float64."""
    scaling = LLAMA_3_2_1B["rope_scaling"]
    (tensor,) = llama3_factors(read_rope(Fields(LLAMA_3_2_1B, "config.json"), 1e4), 64)
    found = np.concatenate(list(blocks(tensor.source)))
    for index, factor in enumerate(found.tolist()):
        wave = 2 * math.pi * 5e5 ** (2 * index / 64)
        smooth = (scaling["original_max_position_embeddings"] / wave - 1.0) / 3.0
        frequency = (1 - smooth) / scaling["factor"] + smooth
        expected = 1.0 if smooth > 1 else scaling["factor"] if smooth < 0 else 1 / frequency
        assert factor == pytest.approx(expected, rel=1e-5)
    assert (found[0], found[-1]) == (1.0, 32.0)
    assert len(set(found.tolist())) > 3


def stored(folder: Path, name: str, change: Any, **config: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Tensors by name and the notes of a reference converted after ``change`` was made to its weights."""
    weights = tiny.read(parity.REFERENCE / name)
    change(weights)
    tiny.copy(parity.REFERENCE / name, folder / "in", weights, **config)
    report = gguf_convert.convert(folder / "in", folder / "out.gguf", "F32")
    return tensors(folder / "out.gguf"), report.notes


def tensors(path: Path) -> dict[str, Any]:
    return {tensor.name: tensor.data for tensor in gguf.GGUFReader(path).tensors}


def test_a_tied_head_that_equals_the_embedding_is_left_out(tmp_path: Path) -> None:
    found, notes = stored(tmp_path, "qwen3_0_6b", lambda weights: weights.update({HEAD: weights[EMBEDDING]}))
    assert "output.weight" not in found
    assert any("equals the embedding" in note for note in notes)


def test_a_head_that_differs_is_kept_whatever_the_configuration_says(tmp_path: Path) -> None:
    """transformers 5 does the same when it loads such a checkpoint."""
    found, notes = stored(tmp_path, "qwen3_0_6b", lambda weights: weights.update({HEAD: weights[EMBEDDING] + 1}))
    assert np.array_equal(found["output.weight"], found["token_embd.weight"] + 1)
    assert any("differs from the embedding" in note for note in notes)


def test_a_tied_embedding_may_be_stored_as_the_head(tmp_path: Path) -> None:
    found, _ = stored(tmp_path, "qwen3_0_6b", lambda weights: weights.update({HEAD: weights.pop(EMBEDDING)}))
    assert np.array_equal(found["token_embd.weight"], tiny.read(parity.REFERENCE / "qwen3_0_6b")[EMBEDDING])
    assert "output.weight" not in found


def test_an_untied_checkpoint_without_head_or_embedding_is_refused(tmp_path: Path) -> None:
    for number, name in enumerate((HEAD, EMBEDDING)):
        (folder := tmp_path / str(number)).mkdir()
        with pytest.raises(ConvertError, match=name.removeprefix("model.")):
            stored(folder, "qwen2_5_7b", lambda weights, name=name: weights.pop(name))


def test_buffers_of_old_llama_checkpoints_are_ignored(tmp_path: Path) -> None:
    buffer = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(8, np.float32)}
    found, notes = stored(tmp_path, "smollm2_135m", lambda weights: weights.update(buffer))
    assert len(found) == len(tiny.read(parity.REFERENCE / "smollm2_135m"))
    assert not any("Left out" in note for note in notes)


@pytest.mark.parametrize("prefix", ["language_model.model.", "model.language_model."])
def test_both_names_of_a_text_model_in_a_multimodal_checkpoint(tmp_path: Path, prefix: str) -> None:
    def rename(weights: dict[str, Any]) -> None:
        for name in [name for name in weights if "language_model." in name]:
            weights[prefix + name.partition("language_model.")[2].removeprefix("model.")] = weights.pop(name)

    found, _ = stored(tmp_path, "gemma3_4b", rename)
    parity.convert("gemma3_4b", tmp_path)
    assert all(np.array_equal(found[name], data) for name, data in tensors(tmp_path / "gemma3_4b.gguf").items())


def places(config: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every key of a configuration and of the objects in it."""
    for key, value in config.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from places(value, (*path, key))


def replaced(config: Mapping[str, Any], path: tuple[str, ...], new: Any) -> dict[str, Any]:
    key, *rest = path
    return {**config, key: replaced(config[key], tuple(rest), new) if rest else new}


ODD: list[Any] = [
    *(None, True, 0, -1, 1, 2**31, 2**70, 10**400, 1.5, 1e300, float("nan"), float("inf")),
    *("", "x", "\n", [], [1], ["x"], [None], {}, {"a": 1}, {"rope_type": "yarn"}, {"rope_type": ["x"], "factor": 2}),
]
REFERENCES = [name for name in parity.references() if not name.startswith("gemma4")]
CHECKPOINTS = {name: open_checkpoint(parity.REFERENCE / name) for name in REFERENCES}
PLACES = [(name, path) for name in REFERENCES for path in places(CHECKPOINTS[name].config.values)]


@settings(max_examples=400, deadline=None)
@given(place=st.sampled_from(PLACES), value=st.sampled_from(ODD))
def test_any_value_anywhere_is_mapped_or_refused(place: tuple[str, tuple[str, ...]], value: Any) -> None:
    """In a line of text; what is mapped, a GGUF file can hold."""
    name, path = place
    config = replaced(CHECKPOINTS[name].config.values, path, value)
    message, metadata = "", {}
    try:
        metadata = dict(map_checkpoint(replace(CHECKPOINTS[name], config=Fields(config, "config.json"))).metadata)
    except ConvertError as error:
        message = str(error)
    assert message.isprintable()
    for entry in metadata.values():
        if isinstance(entry, float):
            struct.pack("<f", entry)
        elif isinstance(entry, int):
            struct.pack("<I", entry)
