"""llama.cpp loads the converted files and computes what transformers computes from the checkpoint.

The references (scripts/convert/make_gemma4_references.py) were computed twice: by transformers as it is, and with two
details as llama.cpp has them, the half-precision table that ggml's CPU backend uses for GELU and the sliding window
of assistants. What remains of the difference is then rounding, which that table makes ten times larger.
"""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import pytest

import gguf_convert
from tests.helpers import parity
from tests.helpers import tiny_checkpoint as tiny

AS_IS, AS_GGML = 0.02, 0.006  # measured: 0.0064 and 0.0032, on logits up to 3.6
WINDOW = 64
TARGETS = ["gemma4_e2b", "gemma4_e4b", "gemma4_12b", "gemma4_26b_a4b", "gemma4_31b"]
ASSISTANTS = [f"{name}_assistant" for name in TARGETS if name != "gemma4_e4b"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the converted references; each is converted once."""
    return tmp_path_factory.mktemp("converted")


def test_every_gemma4_reference_is_tested() -> None:
    assert {name for name in parity.references() if name.startswith("gemma4")} == {*TARGETS, *ASSISTANTS}


@pytest.mark.parametrize("name", TARGETS)
def test_target_agrees_with_transformers(folder: Path, name: str) -> None:
    """Logits and hidden rows, below and beyond the sliding window."""
    expected, found = parity.expected(name), parity.run(name, folder)
    assert expected["positions"].max() > 2 * WINDOW
    for what in ("logits", "hidden"):
        rows = found[what][expected["positions"]]
        assert np.abs(rows - expected[what]).max() < AS_IS
        assert np.abs(rows - expected[f"{what}_ggml"]).max() < AS_GGML


@pytest.mark.parametrize("name", ASSISTANTS)
def test_drafts_are_those_of_transformers(folder: Path, name: str) -> None:
    """Four behind a prompt shorter than the window; behind a longer one the first, or four given the same window."""
    expected, found = parity.expected(name), parity.run(name, folder)
    for row, length in enumerate(expected["lengths"].tolist()):
        drafts = found[f"drafts_{length}"].tolist()
        alike = 4 if length < WINDOW else 1
        assert found[f"next_{length}"] == expected["next"][row]
        assert drafts == expected["drafts_ggml"][row].tolist()
        assert drafts[:alike] == expected["drafts"][row, :alike].tolist()
        assert np.abs(found[f"draft_logits_{length}"] - expected["draft_logits_ggml"][row]).max() < AS_GGML


def test_llama_cpp_tokenises_like_the_tokenizer(folder: Path) -> None:
    texts = json.loads((parity.REFERENCE / "gemma4_e2b" / "texts.json").read_text(encoding="utf-8"))
    parity.convert("gemma4_e2b", folder)
    found = parity.llama(folder, {"target": "gemma4_e2b.gguf", "ids": [2], "texts": [text["text"] for text in texts]})
    for number, text in enumerate(texts):
        assert found[f"text_{number}"].tolist() == text["ids"], text["text"]


def test_a_matrix_of_its_own_is_the_output_head(folder: Path) -> None:
    """Rows in another order give the same logits in that order."""
    name = "gemma4_31b"
    weights = tiny.read(parity.REFERENCE / name)
    order = np.random.default_rng(0).permutation(len(weights["model.language_model.embed_tokens.weight"]))
    weights["lm_head.weight"] = weights["model.language_model.embed_tokens.weight"][order]
    untied = folder / "untied"
    tiny.copy(parity.REFERENCE / name, untied, weights, tie_word_embeddings=False)
    gguf_convert.convert(untied, folder / "untied.gguf", "F32")
    tokens = parity.expected(name)["tokens"].tolist()
    found = parity.llama(folder, {"target": "untied.gguf", "ids": tokens})["logits"]
    assert np.abs(found - parity.run(name, folder)["logits"][:, order]).max() < 1e-5


def test_suppressed_tokens_of_the_12b_are_in_its_file(folder: Path) -> None:
    parity.convert("gemma4_12b", folder)
    fields = gguf.GGUFReader(folder / "gemma4_12b.gguf").fields
    assert fields["tokenizer.ggml.suppress_tokens"].contents() == [7, 8]


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0"])
@pytest.mark.parametrize("experts", [False, True], ids=["dense", "experts"])
def test_llama_cpp_decodes_every_type(tmp_path: Path, kind: str, experts: bool) -> None:
    """On a checkpoint made by hand; a coarser type moves the logits, but not beyond recognition."""
    more = {"num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 32} if experts else {}
    tiny.write(tmp_path / "target", tiny.text_config(enable_moe_block=experts, **more))
    tiny.write(tmp_path / "assistant", tiny.assistant_config())
    job = {"ids": list(range(2, 42)), "drafts": 2}
    rows = []
    for each in ("F32", kind):
        for name in ("target", "assistant"):
            gguf_convert.convert(tmp_path / name, tmp_path / f"{name}.gguf", each, force=True)
        done = parity.llama(tmp_path, {**job, "target": "target.gguf", "assistant": "assistant.gguf"})
        assert done["drafts_40"].shape == (2,)
        rows.append(done["logits"])
    correlation = np.corrcoef(rows[0].ravel(), rows[1].ravel())[0, 1]
    assert correlation > {"F16": 0.999, "BF16": 0.99, "Q8_0": 0.99, "Q4_0": 0.6}[kind]
