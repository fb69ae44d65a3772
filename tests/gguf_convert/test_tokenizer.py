"""The vocabulary of the GGUF file: ids, types and merges are those of tokenizer.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import pytest

import gguf_convert
from gguf_convert.tokenizer import BYTE, CONTROL, NORMAL, UNUSED, USER_DEFINED, GgufVocabulary, read_vocabulary
from localspec.errors import ConvertError
from tests.helpers import tiny_checkpoint as tiny


def vocabulary(folder: Path, **changes: Any) -> GgufVocabulary:
    tiny.write(folder, vocabulary=tiny.tokenizer(**changes))
    return read_vocabulary(folder, tiny.VOCAB)


def test_tokens_types_and_merges(tmp_path: Path) -> None:
    found = vocabulary(tmp_path)
    types = dict(zip(found.tokens, found.types, strict=True))
    for text, index in tiny.tokenizer()["model"]["vocab"].items():
        assert found.tokens[index] == text
    assert {types[text] for text in tiny.SPECIAL} == {CONTROL}
    assert {types[text] for text in tiny.VISIBLE} == {USER_DEFINED}
    assert {types[f"<0x{i:02X}>"] for i in range(256)} == {BYTE}
    assert {types["a"], types["hello"], types["▁w"]} == {NORMAL}
    assert types["added"] == USER_DEFINED
    assert found.merges == tuple(f"{left} {right}" for left, right in tiny.MERGES)


def test_rows_without_a_token_are_unused(tmp_path: Path) -> None:
    found = vocabulary(tmp_path)
    used = len(tiny.tokenizer()["model"]["vocab"])
    assert len(found.tokens) == tiny.VOCAB
    assert found.tokens[used:] == tuple(f"[PAD{i}]" for i in range(used, tiny.VOCAB))
    assert set(found.types[used:]) == {UNUSED}


def test_keys_in_the_file(tmp_path: Path) -> None:
    tiny.write(tmp_path / "in", template="{# Grüße #}{{ bos_token }}")
    tiny.write_json(tmp_path / "in" / "generation_config.json", {"suppress_tokens": [7, 8]})
    gguf_convert.convert(tmp_path / "in", tmp_path / "out.gguf")
    fields = gguf.GGUFReader(tmp_path / "out.gguf").fields
    found = {key.removeprefix("tokenizer."): field.contents() for key, field in fields.items() if "tokenizer." in key}
    assert found["ggml.model"] == "gemma4"
    assert found["ggml.add_bos_token"] is True
    assert found["ggml.add_space_prefix"] is False
    assert (found["ggml.bos_token_id"], found["ggml.eos_token_id"]) == (2, 1)
    assert found["ggml.suppress_tokens"] == [7, 8]
    assert found["chat_template"] == "{# Grüße #}{{ bos_token }}"
    assert len(found["ggml.tokens"]) == len(found["ggml.scores"]) == len(found["ggml.token_type"]) == tiny.VOCAB
    assert "ggml.pre" not in found


@pytest.mark.parametrize("write", ["config", "named", "jinja", "json"])
def test_the_chat_template_wherever_it_is(tmp_path: Path, write: str) -> None:
    tiny.write(tmp_path, template="T" if write == "jinja" else None)
    settings: dict[str, Any] = {"bos_token": "<bos>", "eos_token": "<eos>"}
    if write == "config":
        settings["chat_template"] = "T"
    elif write == "named":
        settings["chat_template"] = [{"name": "tool", "template": "U"}, {"name": "default", "template": "T"}]
    elif write == "json":
        tiny.write_json(tmp_path / "chat_template.json", {"chat_template": "T"})
    tiny.write_json(tmp_path / "tokenizer_config.json", settings)
    assert read_vocabulary(tmp_path, tiny.VOCAB).templates.default == "T"


def test_special_ids_from_config_when_the_tokenizer_names_none(tmp_path: Path) -> None:
    tiny.write(tmp_path, tiny.text_config(bos_token_id=2, eos_token_id=1))
    (tmp_path / "tokenizer_config.json").unlink()
    assert read_vocabulary(tmp_path, tiny.VOCAB).special == {"bos": 2, "eos": 1}


def test_merges_as_strings_are_the_same(tmp_path: Path) -> None:
    joined = [" ".join(merge) for merge in tiny.MERGES]
    assert vocabulary(tmp_path / "a", merges=joined) == vocabulary(tmp_path / "b")


def test_notes_merges_that_llama_cpp_never_applies(tmp_path: Path) -> None:
    assert vocabulary(tmp_path / "a").notes == ()
    vocab = {**tiny.tokenizer()["model"]["vocab"], "a\n": 319}
    (note,) = vocabulary(tmp_path / "b", vocab=vocab, merges=[["a", "\n"], ["h", "e"]]).notes
    assert note.startswith("1 merges join line breaks")


def with_token(text: str, index: Any) -> dict[str, Any]:
    return {"vocab": {**tiny.tokenizer()["model"]["vocab"], text: index}}


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"type": "Unigram"}, "Unigram"),
        ({"byte_fallback": False}, "normalizer"),
        ({"merges": []}, '"merges"'),
        ({"merges": [["a b", "c"]]}, "without spaces"),
        ({"merges": [["a", "b", "c"]]}, "expected two tokens"),
        ({"merges": [["a", 1]]}, "expected two tokens"),
        ({"merges": [["a", "q"]]}, "no token 'aq'"),
        ({"vocab": []}, '"vocab" must be an object'),
        (with_token("new", 320), "320 rows"),
        (with_token("new", -1), "320 rows"),
        (with_token("new", True), "320 rows"),
        (with_token("new", 5), "gives id 5 to"),
        (with_token("", 319), "empty token"),
        (with_token("<bos>", 319), "ids 319 and 2"),
        (with_token("[PAD318]", 319), "PAD318"),
        (with_token("\ud800", 319), "not valid Unicode"),
    ],
)
def test_refuses_a_tokenizer_that_would_come_out_wrong(tmp_path: Path, changes: dict[str, Any], match: str) -> None:
    with pytest.raises(ConvertError, match=match) as caught:
        vocabulary(tmp_path, **changes)
    str(caught.value).encode()


@pytest.mark.parametrize(
    "normalizer",
    [{"type": "NFKC"}, {"type": "Sequence"}, {"type": "Sequence", "normalizers": [{"type": "Prepend"}]}, None],
)
def test_refuses_another_normalizer(tmp_path: Path, normalizer: Any) -> None:
    tiny.write(tmp_path, vocabulary={**tiny.tokenizer(), "normalizer": normalizer})
    with pytest.raises(ConvertError, match="normalizer"):
        read_vocabulary(tmp_path, tiny.VOCAB)


def test_refuses_a_model_without_an_end_token(tmp_path: Path) -> None:
    tiny.write(tmp_path)
    tiny.write_json(tmp_path / "tokenizer_config.json", {"bos_token": "<bos>", "eos_token": "<nowhere>"})
    with pytest.raises(ConvertError, match="names the eos token"):
        read_vocabulary(tmp_path, tiny.VOCAB)


@pytest.mark.parametrize("ids", [[320], [-1], "7", [1.5]])
def test_refuses_suppressed_ids_out_of_range(tmp_path: Path, ids: Any) -> None:
    tiny.write(tmp_path)
    tiny.write_json(tmp_path / "generation_config.json", {"suppress_tokens": ids})
    with pytest.raises(ConvertError, match="suppress_tokens"):
        read_vocabulary(tmp_path, tiny.VOCAB)
