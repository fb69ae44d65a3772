"""Laws of the kinds of tokenizers: which are recognised, their names, and what is refused or noted."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gguf_convert.tokenizer import CONTROL, NORMAL, UNUSED, USER_DEFINED, GgufVocabulary, read_vocabulary
from localspec.errors import ConvertError
from tests.helpers import tiny_checkpoint as tiny
from tests.helpers.odd_json import ODD, paths, replaced
from tests.helpers.paths import REFERENCE

TOKENIZERS = REFERENCE / "tokenizers"
ROWS = 2400
NAMES = ("tokenizer.json", "tokenizer_config.json", "config.json")
Json = dict[str, Any]


@functools.cache
def stored(kind: str, name: str) -> str:
    return (TOKENIZERS / kind / name).read_text(encoding="utf-8")


def document(kind: str, name: str) -> Json:
    found: Json = json.loads(stored(kind, name))
    return found


def read(folder: Path, kind: str, change: Callable[[Json], object] | None = None, **files: Json) -> GgufVocabulary:
    """The vocabulary of a stored tokenizer, its ``tokenizer.json`` changed, other files extended by ``files``."""
    folder.mkdir(exist_ok=True)
    for name in NAMES:
        value = document(kind, name) | files.get(name.removesuffix(".json"), {})
        if name == "tokenizer.json" and change is not None:
            change(value)
        tiny.write_json(folder / name, value)
    if "generation_config" in files:
        tiny.write_json(folder / "generation_config.json", files["generation_config"])
    return read_vocabulary(folder, ROWS)


def with_pattern(tokenizer: Json, pattern: str, **changes: Any) -> None:
    tokenizer["pre_tokenizer"]["pretokenizers"][0] |= {"pattern": {"Regex": pattern}, **changes}


def pattern_of(kind: str) -> str:
    found: str = document(kind, "tokenizer.json")["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"]
    return found


def test_types_of_tokens(tmp_path: Path) -> None:
    """Added tokens are special by flag, or by their look, as in llama.cpp's converter; others always match."""
    found = read(tmp_path, "qwen3")
    types = dict(zip(found.tokens, found.types, strict=True))
    assert {types[text] for text in ("<|im_end|>", "<|fim_prefix|>", "<|repo_name|>")} == {CONTROL}
    assert {types[text] for text in ("<tool_call>", "<think>", "</think>")} == {USER_DEFINED}
    assert {types["a"], types["Ġthe"]} == {NORMAL}
    assert types[f"[PAD{ROWS - 1}]"] == UNUSED


def test_a_pattern_with_line_breaks_spelled_out(tmp_path: Path) -> None:
    pattern = pattern_of("qwen2").replace(r"\r", "\r").replace(r"\n", "\n")
    assert read(tmp_path, "qwen2", lambda t: with_pattern(t, pattern)).settings["pre"] == "qwen2"


def test_keeping_matches_cuts_as_isolating_them(tmp_path: Path) -> None:
    same = read(tmp_path, "llama3", lambda t: with_pattern(t, pattern_of("llama3"), behavior="Removed", invert=True))
    assert same.settings["pre"] == "llama-bpe"


def test_whole_words_before_merges_is_part_of_the_name(tmp_path: Path) -> None:
    """llama.cpp looks up whole words first under the name llama-bpe only."""
    assert read(tmp_path, "llama3", lambda t: t["model"].update(ignore_merges=False)).settings["pre"] == "smaug-bpe"
    with pytest.raises(ConvertError, match="whole words before merges"):
        read(tmp_path, "qwen2", lambda t: t["model"].update(ignore_merges=True))


def test_gpt2_and_qwen35_patterns(tmp_path: Path) -> None:
    whole = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    assert read(tmp_path, "smollm2", lambda t: t.update(pre_tokenizer=whole)).settings["pre"] == "gpt-2"
    marks = (
        pattern_of("qwen2").replace(r"?\p{L}+", r"?[\p{L}\p{M}]+").replace(r"\s\p{L}\p{N}]+", r"\s\p{L}\p{M}\p{N}]+")
    )
    assert read(tmp_path, "qwen2", lambda t: with_pattern(t, marks)).settings["pre"] == "qwen35"


def test_an_unknown_pattern_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match=r"splits words by '\\\\w\+'.*llama-bpe.*qwen2"):
        read(tmp_path, "qwen2", lambda t: with_pattern(t, r"\w+"))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda t: t.update(normalizer={"type": "NFKC"}), "normalizer"),
        (lambda t: t.update(normalizer={"type": "Sequence", "normalizers": [t["normalizer"], {}]}), "NFC"),
        (lambda t: t.update(pre_tokenizer=None), "must end in ByteLevel"),
        (lambda t: t["pre_tokenizer"]["pretokenizers"][1].update(add_prefix_space=True), "without a prefix space"),
        (lambda t: t["pre_tokenizer"]["pretokenizers"].reverse(), "must end in ByteLevel"),
        (lambda t: with_pattern(t, pattern_of("qwen2"), behavior="MergedWithNext"), "does not have"),
        (lambda t: t["model"].update(end_of_word_suffix="</w>"), "end_of_word_suffix"),
        (lambda t: t["model"].update(type="WordPiece"), "WordPiece"),
    ],
)  # fmt: skip
def test_refuses_what_llama_cpp_does_not_do(tmp_path: Path, change: Callable[[Json], object], match: str) -> None:
    with pytest.raises(ConvertError, match=match):
        read(tmp_path, "qwen2", change)


def test_composition_is_said(tmp_path: Path) -> None:
    """Qwen's tokenizer composes characters, llama.cpp does not."""
    assert any("NFC" in note for note in read(tmp_path, "qwen2").notes)
    assert not read(tmp_path, "smollm2").notes


def test_bos_and_eos_are_added_as_by_the_post_processor(tmp_path: Path) -> None:
    keys = ("add_bos_token", "add_eos_token")
    llama = read(tmp_path / "a", "llama3", tokenizer_config={"add_bos_token": False})
    assert [llama.settings[key] for key in keys] == [True, False]
    none = read(tmp_path / "b", "llama3", lambda t: t.update(post_processor=None))
    assert [none.settings[key] for key in keys] == [False, False]
    config = {"add_bos_token": True, "add_eos_token": True, "bos_token": "<|im_start|>"}
    asked = read(tmp_path / "c", "smollm2", tokenizer_config=config)
    assert [asked.settings[key] for key in keys] == [True, True]


def test_what_stands_before_every_text_is_bos(tmp_path: Path) -> None:
    """When nothing else is called so."""
    found = read(tmp_path, "smollm3", config={"bos_token_id": 5})
    assert found.tokens[found.special["bos"]] == "<|begin_of_text|>"
    assert found.settings["add_bos_token"] is True


def test_says_what_llama_cpp_will_not_add(tmp_path: Path) -> None:
    found = read(tmp_path, "llama3", tokenizer_config={"bos_token": "<|end_of_text|>"})
    assert found.settings["add_bos_token"] is False
    (note,) = found.notes
    assert "'<|begin_of_text|>'" in note


def test_end_tokens_of_the_generation_config(tmp_path: Path) -> None:
    """llama.cpp recognises most by their text; two more have a key; notes name the others."""

    def ends(*texts: str) -> GgufVocabulary:
        ids = [document("llama3", "tokenizer.json")["added_tokens"][i]["id"] for i in map(names.index, texts)]
        return read(tmp_path, "llama3", generation_config={"eos_token_id": ids})

    names = [token["content"] for token in document("llama3", "tokenizer.json")["added_tokens"]]
    assert {"eot", "eom"}.isdisjoint(ends("<|eot_id|>", "<|eom_id|>", "<|end_of_text|>").special)
    two = ends("<|eot_id|>", "<|python_tag|>", "<|start_header_id|>")
    assert [two.tokens[two.special[part]] for part in ("eot", "eom")] == ["<|python_tag|>", "<|start_header_id|>"]
    assert not two.notes
    (note,) = ends("<|python_tag|>", "<|start_header_id|>", "<|end_header_id|>").notes
    assert "<|end_header_id|>" in note


def test_says_that_llama_cpp_ends_at_ordinary_text(tmp_path: Path) -> None:
    """``</s>`` is an ordinary token of Qwen's vocabulary."""
    found = read(tmp_path, "qwen3", lambda t: t["model"]["vocab"].update({"</s>": ROWS - 1}))
    assert any("'</s>'" in note for note in found.notes)


def test_says_that_tokens_take_spaces_along(tmp_path: Path) -> None:
    found = read(tmp_path, "llama3", lambda t: t["added_tokens"][2].update(rstrip=True))
    assert any("include spaces" in note for note in found.notes)


def test_named_templates(tmp_path: Path) -> None:
    """From a list, or from files beside the default one."""
    listed = [{"name": "default", "template": "D"}, {"name": "tool-use", "template": "T"}, {"name": 3}]
    found = read(tmp_path / "a", "llama3", tokenizer_config={"chat_template": listed})
    assert (found.templates.default, dict(found.templates.named)) == ("D", {"tool_use": "T"})
    keys = found.metadata()
    assert (keys["tokenizer.chat_templates"], keys["tokenizer.chat_template.tool_use"]) == (["tool_use"], "T")
    more = tmp_path / "b" / "additional_chat_templates"
    more.mkdir(parents=True)
    (tmp_path / "b" / "chat_template.jinja").write_text("D", encoding="utf-8")
    (more / "rag.jinja").write_text("R", encoding="utf-8")
    found = read(tmp_path / "b", "llama3")
    assert (found.templates.default, dict(found.templates.named)) == ("D", {"rag": "R"})


def test_scores_keep_the_order_of_the_merges(tmp_path: Path) -> None:
    found = read(tmp_path, "gemma3")
    score = dict(zip(found.tokens, found.settings["scores"], strict=True))
    added = {token["content"] for token in document("gemma3", "tokenizer.json")["added_tokens"]}
    merged = dict.fromkeys("".join(merge) for merge in document("gemma3", "tokenizer.json")["model"]["merges"])
    order = [score[text] for text in merged if text not in added]
    assert order == sorted(order, reverse=True)
    assert len(set(order)) == len(order)


@pytest.mark.parametrize(
    "change",
    [
        lambda merges: merges.append(merges.pop(3000)),
        lambda merges: merges.pop(3000),
        lambda merges: merges.append(merges.pop(merges.index(["▁", "▁"]))),
    ],
    ids=["out of order", "one missing", "spaces joined late"],
)
def test_merges_that_no_scores_express_are_kept(tmp_path: Path, change: Callable[[list[Any]], object]) -> None:
    """llama.cpp must then get the merges, unlike in the published files."""
    found = read(tmp_path, "gemma3", lambda t: change(t["model"]["merges"]))
    assert found.settings["model"] == "gemma4"
    assert found.merges


@pytest.mark.parametrize("kind", ["gemma3", "gemma4"])
def test_refuses_a_cut_before_merging(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ConvertError, match="pre-tokenizer"):
        read(tmp_path, kind, lambda t: t.update(pre_tokenizer={"type": "Whitespace"}))


PLACES = [
    (kind, name, place) for kind in ("llama3", "gemma3") for name in NAMES for place in paths(document(kind, name))
]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.sampled_from(PLACES), value=st.sampled_from(ODD))
def test_any_value_anywhere_is_read_or_refused(tmp_path: Path, place: tuple[str, str, Any], value: Any) -> None:
    kind, changed, where = place
    for name in NAMES:
        if name == changed:
            tiny.write_json(tmp_path / name, replaced(copy.copy(document(kind, name)), where, value))
        else:
            (tmp_path / name).write_text(stored(kind, name), encoding="utf-8")
    try:
        message = "".join(read_vocabulary(tmp_path, ROWS).notes)
    except ConvertError as error:
        message = str(error)
    assert message.isprintable()
