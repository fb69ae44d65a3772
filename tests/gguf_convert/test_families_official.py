"""Published GGUF files have the architecture's keys and tensors that we would write for their checkpoints."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import gguf
import pytest

from tests.helpers.official_configs import GEMMA3_270M, QWEN25_CODER_0_5B, mapped

FOLDER = Path(os.environ.get("LOCALSPEC_EVAL_DIR", ""))
QWEN25_CODER_1_5B = {
    **QWEN25_CODER_0_5B,
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_attention_heads": 12,
    "num_hidden_layers": 28,
}
FILES = {
    "qwen2.5-coder-0.5b-instruct-q4_0.gguf": QWEN25_CODER_0_5B,
    "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf": QWEN25_CODER_0_5B,
    "qwen2.5-coder-1.5b-instruct-q4_0.gguf": QWEN25_CODER_1_5B,
    "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf": QWEN25_CODER_1_5B,
    "gemma-3-270m-q4_k_m.gguf": GEMMA3_270M,
}


@pytest.mark.integration
@pytest.mark.parametrize("name", FILES)
def test_keys_and_tensors_of_a_published_file(name: str) -> None:
    """Except for the base of Gemma's sliding layers, which that file predates, and Qwen's copy of a tied head."""
    reader = gguf.GGUFReader(FOLDER / name)
    fields: dict[str, Any] = {key: field.contents() for key, field in reader.fields.items() if "GGUF" not in key}
    model = mapped(FILES[name])
    prefix = f"{fields['general.architecture']}."
    expected = {key: value for key, value in model.metadata.items() if key != "rope.freq_base_swa"}
    found = {key.removeprefix(prefix): value for key, value in fields.items() if key.startswith(prefix)}
    assert found == {key: pytest.approx(value) for key, value in expected.items()}
    shapes = {tensor.name: tuple(reversed(tensor.shape.tolist())) for tensor in reader.tensors}
    shapes.pop("output.weight", None)
    assert shapes == {tensor.name: tensor.shape for tensor in model.tensors}
