"""Any content of a checkpoint's JSON files is converted, or refused in one printable line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import gguf_convert
from localspec.errors import ConvertError
from tests.helpers import tiny_checkpoint as tiny
from tests.helpers.odd_json import ODD, paths, replaced

DOCUMENTS: dict[str, Any] = {
    "config.json": {**tiny.text_config(), "attention_k_eq_v": False, "per_layer_config": {"01": {"head_dim": 64}}},
    "tokenizer.json": tiny.tokenizer(),
    "tokenizer_config.json": {
        "bos_token": "<bos>",
        "eos_token": {"content": "<eos>"},
        "extra_special_tokens": {"image_token": "<|turn>"},
        "chat_template": [{"name": "default", "template": "T"}],
    },
    "generation_config.json": {"suppress_tokens": [1]},
}
PLACES = [(name, path) for name, document in DOCUMENTS.items() for path in paths(document)]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(PLACES), value=st.sampled_from(ODD))
def test_any_value_anywhere_is_converted_or_refused(
    tmp_path: Path, place: tuple[str, tuple[Any, ...]], value: Any
) -> None:
    if not (tmp_path / "in").exists():
        tiny.write(tmp_path / "in")
    for name, document in DOCUMENTS.items():
        changed = replaced(document, place[1], value) if name == place[0] else document
        tiny.write_json(tmp_path / "in" / name, changed)
    message = ""
    try:
        gguf_convert.convert(tmp_path / "in", tmp_path / "out.gguf", "F16", force=True)
    except ConvertError as error:
        message = str(error)
    assert message.isprintable()
    assert not (tmp_path / "out.gguf.partial").exists()
