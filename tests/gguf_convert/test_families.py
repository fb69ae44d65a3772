"""The common families: llama.cpp on the converted files computes what transformers computes from the checkpoints.

References: scripts/convert/make_family_references.py. Ten narrow checkpoints in BF16, each in the spelling of its
family on the Hub. Where an activation is GELU, the second bound is for transformers with ggml's table of half-precision
values.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import gguf_convert
from tests.helpers import parity
from tests.helpers import tiny_checkpoint as tiny

WINDOW = 40
EXACT = (1e-4, 1e-4)  # measured: 2.4e-5 at most, on logits up to 6.5
GELU = (0.02, 0.005)  # measured: 0.0052 and 0.0010
EXPERTS = (2e-3, 2e-3)  # measured: 1.1e-3 at one of eleven positions, 8e-5 elsewhere
BOUNDS = {
    "gemma3_270m": GELU,
    "gemma3_4b": GELU,
    "llama_3_2_1b": EXACT,
    "llama_untied": EXACT,
    "qwen2_5_0_5b": EXACT,
    "qwen2_5_7b": EXACT,
    "qwen3_0_6b": EXACT,
    "qwen3_5_35b": EXPERTS,
    "qwen3_5_4b": EXACT,
    "qwen3_8b": EXACT,
    "smollm2_135m": EXACT,
    "smollm3_3b": EXACT,
}
UNTIED = {"llama_untied", "qwen2_5_7b", "qwen3_5_35b", "qwen3_8b"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the converted references; each is converted once."""
    return tmp_path_factory.mktemp("converted")


def tensors(path: Path) -> dict[str, Any]:
    return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}


def test_every_reference_is_tested() -> None:
    assert {name for name in parity.references() if not name.startswith("gemma4")} == set(BOUNDS)


@pytest.mark.parametrize("name", BOUNDS)
def test_logits_agree_with_transformers(folder: Path, name: str) -> None:
    """Over 200 tokens of varied text, which is beyond the sliding window of Gemma 3."""
    expected, found = parity.expected(name), parity.run(name, folder)
    assert expected["positions"].min() == 0
    assert expected["positions"].max() > 4 * WINDOW
    result = parity.compare(found, expected, name)
    as_is, same = BOUNDS[name]
    assert result.scale > 3
    assert result.as_is.absolute < as_is
    assert result.same.absolute < same


@pytest.mark.parametrize("name", BOUNDS)
def test_only_an_untied_head_is_written(folder: Path, name: str) -> None:
    parity.convert(name, folder)
    assert ("output.weight" in tensors(folder / f"{name}.gguf")) == (name in UNTIED)


@pytest.mark.parametrize("name", ["gemma3_270m", "smollm3_3b"])
def test_a_head_of_its_own_where_the_official_ones_are_tied(folder: Path, name: str) -> None:
    """Rows in another order give the same logits in that order."""
    source, untied = parity.REFERENCE / name, folder / f"{name}_untied"
    weights = tiny.read(source)
    order = np.random.default_rng(0).permutation(len(weights["model.embed_tokens.weight"]))
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"][order]
    tiny.copy(source, untied, weights, tie_word_embeddings=False)
    gguf_convert.convert(untied, folder / "untied.gguf", "F32", force=True)
    tokens = parity.expected(name)["tokens"].tolist()
    found = parity.llama(folder, {"target": "untied.gguf", "ids": tokens})["logits"]
    assert np.abs(found - parity.run(name, folder)["logits"][:, order]).max() < 1e-5


@pytest.mark.parametrize("name", BOUNDS)
def test_the_type_of_the_source_and_its_shards_make_no_difference(tmp_path: Path, name: str) -> None:
    """Values that F16 and BF16 both hold, in one file and, where the reference has two, in two."""
    source = parity.REFERENCE / name
    weights = {key: np.round(value * 32) / 32 for key, value in tiny.read(source).items()}
    files = []
    for kind in ("BF16", "F16", "F32"):
        tiny.copy(source, tmp_path / kind, weights, kind)
        gguf_convert.convert(tmp_path / kind, tmp_path / f"{kind}.gguf", "F32")
        files.append(tensors(tmp_path / f"{kind}.gguf"))
    tiny.copy(source, tmp_path / "one", tiny.read(source))
    gguf_convert.convert(tmp_path / "one", tmp_path / "one.gguf", "F32")
    gguf_convert.convert(source, tmp_path / "stored.gguf", "F32")
    files += [tensors(tmp_path / "one.gguf"), tensors(tmp_path / "stored.gguf")]
    for one, other in ((0, 1), (0, 2), (3, 4)):
        assert files[one].keys() == files[other].keys()
        for key, tensor in files[one].items():
            assert np.array_equal(tensor.data, files[other][key].data), key


@pytest.mark.parametrize("name", BOUNDS)
@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0"])
def test_check_accepts_what_convert_wrote(tmp_path: Path, name: str, kind: str) -> None:
    gguf_convert.convert(parity.REFERENCE / name, tmp_path / "out.gguf", kind)
    assert gguf_convert.check(parity.REFERENCE / name, tmp_path / "out.gguf").tensors > 20


def test_notes_of_a_multimodal_checkpoint_say_what_was_left_out(tmp_path: Path) -> None:
    report = gguf_convert.convert(parity.REFERENCE / "gemma3_4b", tmp_path / "out.gguf", "F32")
    assert any("34 tensors of the vision part" in note for note in report.notes)
