"""Laws of tokenising: llama.cpp, given a converted file, finds the ids of the ``tokenizers`` library.

Stored tokenizers with the settings of the published ones and what the library made of 2,000 lines with them
(``scripts/convert/make_tokenizer_references.py``). Every difference of llama.cpp is named here, with its reason.
"""

from __future__ import annotations

import json
import subprocess
import sys
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import pytest

import gguf_convert
from gguf_convert.checkpoint.folder import open_checkpoint
from gguf_convert.tokenizer import read_vocabulary
from tests.helpers import mixed_text
from tests.helpers import tiny_checkpoint as tiny
from tests.helpers.paths import REFERENCE, ROOT

#: Tokenizer → a stored checkpoint of the family, whose weights get a vocabulary of its size.
FAMILIES = {
    "gemma3": "gemma3_270m",
    "gemma4": "gemma4_12b",
    "llama3": "llama_3_2_1b",
    "qwen2": "qwen2_5_0_5b",
    "qwen3": "qwen3_0_6b",
    "smollm2": "smollm2_135m",
    "smollm3": "smollm3_3b",
}
COMPOSED = ("qwen2", "qwen3")
PRE = {"llama3": "llama-bpe", "qwen2": "qwen2", "qwen3": "qwen2", "smollm2": "smollm", "smollm3": "llama-bpe"}

Ids = npt.NDArray[Any]


def read_json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def lines(kind: str) -> list[str]:
    return mixed_text.lines(mixed_text.special_tokens(read_json(REFERENCE / "tokenizers" / kind / "tokenizer.json")))


def checkpoint(kind: str, folder: Path) -> None:
    """A checkpoint of the family with random rows for the tokens of the stored tokenizer, and a few more."""
    source, tokenizer = REFERENCE / FAMILIES[kind], REFERENCE / "tokenizers" / kind
    config = read_json(source / "config.json")
    text = config.get("text_config", config)
    old = text["vocab_size"]
    highest = max(token["id"] for token in read_json(tokenizer / "tokenizer.json")["added_tokens"])
    rows = max(highest, *read_json(tokenizer / "tokenizer.json")["model"]["vocab"].values()) + 8
    random = np.random.default_rng(0)
    weights = {}
    for name, tensor in open_checkpoint(source).tensors.items():
        values = tensor.rows(0, tensor.shape[0])
        if tensor.shape[0] == old:
            values = random.standard_normal((rows, *tensor.shape[1:])).astype(np.float32)
        weights[name] = values
    text["vocab_size"] = rows
    if "vocab_size_per_layer_input" in text:
        text["vocab_size_per_layer_input"] = rows
    stored = read_json(tokenizer / "config.json")
    config |= {"bos_token_id": None, "eos_token_id": None} | stored | {"architectures": config["architectures"]}
    text |= {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None} if text is not config else {}
    tiny.write(folder, config, weights=weights, vocabulary=read_json(tokenizer / "tokenizer.json"))
    tiny.write_json(folder / "tokenizer_config.json", read_json(tokenizer / "tokenizer_config.json"))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Ids]:
    """Ids that one child process found for all kinds; Qwen's lines are composed first, as by its tokenizers."""
    folder = tmp_path_factory.mktemp("parity")
    job = {}
    for kind in FAMILIES:
        checkpoint(kind, folder / kind)
        gguf_convert.convert(folder / kind, folder / f"{kind}.gguf", "F32")
        texts = [unicodedata.normalize("NFC", text) if kind in COMPOSED else text for text in lines(kind)]
        job[kind] = {"file": str(folder / f"{kind}.gguf"), "texts": texts, "framed": mixed_text.FRAMED}
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    command = [
        sys.executable,
        str(ROOT / "tests/helpers/llama_tokenize.py"),
        str(folder / "job.json"),
        str(folder / "out.npz"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(folder / "out.npz") as stored:
        return dict(stored)


def stored_ids(kind: str) -> Mapping[str, Ids]:
    with np.load(REFERENCE / "tokenizers" / kind / "ids.npz") as stored:
        return dict(stored)


def split(ids: Ids, lengths: Ids) -> list[list[int]]:
    return [part.tolist() for part in np.split(ids, np.cumsum(lengths.astype(int))[:-1])]


def excused(kind: str, text: str) -> bool:
    """Gemma: two or more "▁" in the text itself. The library takes them for the token of two spaces."""
    return kind.startswith("gemma") and "▁▁" in text


@pytest.mark.parametrize("kind", FAMILIES)
def test_llama_cpp_finds_the_ids_of_tokenizers(kind: str, found: Mapping[str, Ids]) -> None:
    """On 2,000 lines of code, scripts, emoji, control characters and special tokens."""
    expected = stored_ids(kind)
    ours = split(found[f"{kind}.ids"], found[f"{kind}.lengths"])
    theirs = split(expected["ids"], expected["lengths"])
    texts = lines(kind)
    assert len(ours) == len(theirs) == len(texts) == 2000
    different = [text for text, a, b in zip(texts, ours, theirs, strict=True) if a != b and not excused(kind, text)]
    assert different == []
    assert sum(excused(kind, text) for text in texts) < 30


@pytest.mark.parametrize("kind", FAMILIES)
def test_llama_cpp_adds_what_the_tokenizer_adds(kind: str, found: Mapping[str, Ids]) -> None:
    """Gemma 4's tokenizer adds no BOS, its template does; llama.cpp adds it always."""
    bos = [2] if kind == "gemma4" else []
    assert found[f"{kind}.framed"].tolist() == [*bos, *stored_ids(kind)["framed"].tolist()]


@pytest.mark.parametrize("kind", FAMILIES)
def test_pieces_give_the_text_back(kind: str, found: Mapping[str, Ids]) -> None:
    """Byte for byte; Gemma writes a space as "▁", so the two are equal there."""
    texts = "".join(unicodedata.normalize("NFC", text) if kind in COMPOSED else text for text in lines(kind))
    expected = texts.replace("▁", " ") if kind.startswith("gemma") else texts
    assert found[f"{kind}.pieces"].tobytes().decode().replace("▁", " ") == expected.replace("▁", " ")


@pytest.mark.parametrize(("kind", "name"), PRE.items())
def test_the_pre_tokenizer_by_its_pattern(kind: str, name: str) -> None:
    assert read_vocabulary(REFERENCE / "tokenizers" / kind, 2000).settings["pre"] == name


@pytest.mark.parametrize(
    ("kind", "ends"),
    [
        ("gemma3", {"<eos>", "<end_of_turn>", "</s>"}),
        ("gemma4", {"<eos>", "<turn|>", "<|tool_response>"}),
        ("llama3", {"<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"}),
        ("qwen2", {"<|im_end|>", "<|endoftext|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"}),
        ("smollm3", {"<|im_end|>", "<|end_of_text|>"}),
    ],
)
def test_generation_ends_at(kind: str, ends: set[str], found: Mapping[str, Ids]) -> None:
    """By their text, in llama.cpp: more than the checkpoints name, ``</s>`` in Gemma 3 for one."""
    tokens = read_vocabulary(REFERENCE / "tokenizers" / kind, 2400).tokens
    assert {tokens[token] for token in found[f"{kind}.ends"]} == ends


def test_gemma3_has_the_vocabulary_type_of_the_published_files() -> None:
    """llama.cpp drafts only between models of one type: scores, spaces in user-defined tokens."""
    vocabulary = read_vocabulary(REFERENCE / "tokenizers" / "gemma3", 2400)
    assert vocabulary.settings["model"] == "llama"
    assert vocabulary.merges == ()
    kinds = dict(zip(vocabulary.tokens, vocabulary.types, strict=True))
    assert {kinds["  "], kinds["\n\n"], kinds["[multimodal]"], kinds["</s>"]} == {gguf.TokenType.USER_DEFINED}
    assert {kinds["<unused0>"], kinds["<mask>"], kinds["<end_of_turn>"]} == {gguf.TokenType.CONTROL}


def test_the_lines_are_mixed() -> None:
    """Code, at least six scripts, emoji, control characters, line breaks; none is empty, most differ."""
    texts = mixed_text.lines()
    whole = "".join(texts)
    scripts = {unicodedata.name(char, "").partition(" ")[0] for char in whole}
    assert {"LATIN", "CYRILLIC", "GREEK", "ARABIC", "HEBREW", "DEVANAGARI", "THAI", "CJK", "HANGUL"} <= scripts
    assert {"\x00", "\x1b", "\u200d", "\ufeff", "😀", "\r", "\n", "\t"} <= set(whole)
    assert all(texts)
    assert len(set(texts)) > 1800
