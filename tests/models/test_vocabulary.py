"""Laws of vocabularies compared from files: llama.cpp's rule, token by token, and nothing read that need not be."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import process_time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localspec.errors import LocalspecError
from localspec.gguf.header import read_header
from localspec.models.resolve import TINY_ASSISTANT, TINY_TARGET
from localspec.models.vocabulary import may_share_vocabulary, vocabulary_mismatch, vocabulary_size
from tests.helpers.vocabularies import WORDS, model_file, trimmed_file

Change = Callable[[list[str]], list[str]]


def longer(n: int) -> list[str]:
    return [*WORDS, *(f"pad{i}" for i in range(n))]


def changed(token: int, text: str = "other") -> list[str]:
    return [*WORDS[:token], text, *WORDS[token + 1 :]]


@pytest.mark.parametrize("tokens", [WORDS, longer(128), WORDS[:-128], changed(0), changed(4, "of another length")])
def test_same_vocabulary(tmp_path: Path, tokens: list[str]) -> None:
    """Padding and the first five tokens are no difference, in either direction."""
    a, b = model_file(tmp_path / "a.gguf"), model_file(tmp_path / "b.gguf", tokens=tokens)
    assert vocabulary_mismatch(a, b) is None
    assert vocabulary_mismatch(b, a) is None
    assert may_share_vocabulary(a, read_header(b.path, start_only=True))


def test_large_vocabularies_compare_in_a_tenth_of_a_second(tmp_path: Path) -> None:
    """Of 152,000 tokens each. CPU time: other programs may be busy."""
    tokens = [f"token{i}" for i in range(152_000)]
    a, b = model_file(tmp_path / "a.gguf", tokens=tokens), model_file(tmp_path / "b.gguf", tokens=tokens)
    began = process_time()
    assert vocabulary_mismatch(a, b) is None
    assert process_time() - began < 0.1


@pytest.mark.parametrize(
    ("tokens", "reason"),
    [
        (longer(129), "vocabularies have 1500 and 1629 tokens"),
        (changed(5), "token 5 is b'w5' in one and b'other' in the other"),
        (changed(1499), "token 1499 is b'w1499'"),
        (changed(700, "w70"), "token 700"),
        ([*WORDS[:10], WORDS[11], WORDS[10], *WORDS[12:]], "token 10 is b'w10' in one and b'w11'"),
        ([], "vocabularies have 1500 and 0 tokens"),
    ],
)
def test_other_vocabulary_says_where(tmp_path: Path, tokens: list[str], reason: str) -> None:
    """The first token that differs, or the sizes."""
    a, b = model_file(tmp_path / "a.gguf"), model_file(tmp_path / "b.gguf", tokens=tokens)
    assert reason in (vocabulary_mismatch(a, b) or "")


@pytest.mark.parametrize(
    ("ours", "theirs", "same"),
    [
        ({"model": "llama"}, {}, False),
        ({"add_bos_token": True, "bos_token_id": 7}, {"add_bos_token": True, "bos_token_id": 7}, True),
        ({"add_bos_token": True, "bos_token_id": 7}, {"add_bos_token": True, "bos_token_id": 8}, False),
        ({"add_bos_token": True, "bos_token_id": 7}, {"bos_token_id": 7}, False),
        ({"add_bos_token": False, "bos_token_id": 7}, {"bos_token_id": 8}, True),
        ({"add_eos_token": True, "eos_token_id": 7}, {"add_eos_token": True, "eos_token_id": 8}, False),
        ({"add_eos_token": True}, {"add_eos_token": True}, True),
        ({"eos_token_id": 7}, {"eos_token_id": 8}, True),
        ({"pre": "llama-bpe"}, {"pre": "llama-bpe", "add_bos_token": True}, True),
        ({"model": "llama"}, {"model": "llama", "add_bos_token": True, "bos_token_id": 1}, True),
        ({"model": "llama"}, {"model": "llama", "add_bos_token": False}, False),
        ({"model": "gemma4", "add_bos_token": False}, {"model": "gemma4", "add_bos_token": True}, True),
        ({"pre": "default"}, {}, True),
        # Qwen3.6 27B and Qwen3.5 0.8B (llama.cpp #22358): ids of tokens that no text gets do not matter
        ({"pre": "qwen35", "eos_token_id": 46}, {"pre": "qwen35", "bos_token_id": 44, "eos_token_id": 44}, True),
    ],
)
def test_beginnings_and_ends(tmp_path: Path, ours: dict[str, Any], theirs: dict[str, Any], same: bool) -> None:
    """The tokens added to a text must be equal; the default of a missing key is llama.cpp's for that tokenizer."""
    for where in (
        {"keys": theirs},
        {"late": theirs} if "model" not in theirs and "pre" not in theirs else {"keys": theirs},
    ):
        a, b = model_file(tmp_path / "a.gguf", keys=ours), model_file(tmp_path / "b.gguf", **where)
        assert (vocabulary_mismatch(a, b) is None) == same
        assert (vocabulary_mismatch(b, a) is None) == same


@given(st.lists(st.integers(0, len(WORDS) - 1), min_size=1, max_size=40, unique=True).map(sorted), st.booleans())
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_trimmed_drafter_is_compared_by_its_map(tmp_path: Path, ids: list[int], right: bool) -> None:
    """Each kept token with the one it stands for; its size is that of the whole vocabulary."""
    target = model_file(tmp_path / "a.gguf")
    ids = [i for i in ids if i >= 5] or [5]
    tokens = [WORDS[i] for i in ids]
    if not right:
        tokens[-1] = "other"
    drafter = trimmed_file(tmp_path / "b.gguf", ids, tokens=tokens)
    assert vocabulary_size(drafter) == len(WORDS)
    assert (vocabulary_mismatch(target, drafter) is None) == right
    assert may_share_vocabulary(target, read_header(drafter.path, start_only=True))


@pytest.mark.parametrize("bos", [0, 2])
def test_trimmed_drafter_begins_with_the_targets_token(tmp_path: Path, bos: int) -> None:
    """By the map, not by its own id."""
    target = model_file(tmp_path / "a.gguf", keys={"add_bos_token": True, "bos_token_id": 30})
    keys = {"add_bos_token": True, "bos_token_id": bos}
    drafter = trimmed_file(tmp_path / "b.gguf", [10, 20, 30], keys=keys)
    assert (vocabulary_mismatch(target, drafter) is None) == (bos == 2)


@pytest.mark.parametrize("ids", [[], [3, 9], [-1, 3, 9], [3, 9, len(WORDS)]])
def test_trimmed_drafter_with_a_broken_map(tmp_path: Path, ids: list[int]) -> None:
    """Goes with nothing."""
    target = model_file(tmp_path / "a.gguf")
    drafter = trimmed_file(tmp_path / "b.gguf", ids, tokens=["w3", "w9", "w10"])
    assert "changed since it was trimmed" in (vocabulary_mismatch(target, drafter) or "")


def test_tokens_behind_another_long_list_are_found(tmp_path: Path) -> None:
    """For example behind thousands of tags."""
    a = model_file(tmp_path / "a.gguf", keys={".general.tags": [f"tag{i}" for i in range(2000)]})
    b = model_file(tmp_path / "b.gguf")
    assert vocabulary_mismatch(a, b) is None
    assert vocabulary_mismatch(model_file(tmp_path / "c.gguf", tokens=changed(9)), a) is not None


def test_short_vocabularies_are_compared_too(tmp_path: Path) -> None:
    """Those that the start of a file does not stop at."""
    a, b = (model_file(tmp_path / f"{name}.gguf", tokens=WORDS[:200]) for name in "ab")
    assert vocabulary_mismatch(a, b) is None
    assert "token 150" in (vocabulary_mismatch(a, model_file(tmp_path / "c.gguf", tokens=changed(150)[:200])) or "")


def test_built_in_pair_shares_its_vocabulary() -> None:
    """By the same rule."""
    assert vocabulary_mismatch(read_header(TINY_TARGET), read_header(TINY_ASSISTANT)) is None


@pytest.mark.parametrize(
    ("keys", "tokens", "may"),
    [({}, WORDS, True), ({"model": "llama"}, WORDS, False), ({}, longer(129), False), ({}, WORDS[:1100], True),
     ({"pre": "other"}, WORDS[:1100], False), ({"pre": "other"}, WORDS[:1400], True)],
)  # fmt: skip
def test_start_of_a_file_rules_out_most(tmp_path: Path, keys: dict[str, Any], tokens: list[str], may: bool) -> None:
    """By the kind of tokenizer and the number of tokens; a smaller one may be trimmed."""
    target = model_file(tmp_path / "a.gguf")
    other = model_file(tmp_path / "b.gguf", keys=keys, tokens=tokens)
    assert may_share_vocabulary(target, read_header(other.path, start_only=True)) == may


# The start of a header.


def test_start_is_the_header_up_to_the_vocabulary(tmp_path: Path) -> None:
    """Key by key; of a file without a long list it is all of the metadata."""
    whole = model_file(tmp_path / "a.gguf", keys={"{}.block_count": 3}, late={"bos_token_id": 4})
    start = read_header(whole.path, start_only=True)
    assert start.lengths == {"tokenizer.ggml.tokens": len(WORDS)}
    assert start.metadata == {k: v for k, v in whole.metadata.items() if not k.endswith("bos_token_id")}
    assert start.number("block_count") == 3
    assert whole.strings("tokenizer.ggml.tokens") == [word.encode() for word in WORDS]
    short = model_file(tmp_path / "b.gguf", tokens=WORDS[:5], late={"bos_token_id": 4})
    assert read_header(short.path, start_only=True).lengths == short.lengths
    assert read_header(short.path, start_only=True).metadata == short.metadata


def test_damaged_files_give_one_sentence(tmp_path: Path) -> None:
    """Any changed bytes, and any end of the file, give an answer or one of our errors."""
    target = model_file(tmp_path / "a.gguf", 1)
    data = target.path.read_bytes()
    rng = random.Random(7)
    path = tmp_path / "b.gguf"
    outcomes: Counter[str] = Counter()
    for _ in range(150):
        damaged = bytearray(data)
        for _ in range(rng.randint(1, 3)):
            damaged[rng.randrange(min(len(damaged), 400))] = rng.randrange(256)
        path.write_bytes(damaged[: rng.choice((len(data), rng.randrange(1, len(data))))])
        for look in (
            lambda: read_header(path, start_only=True),
            lambda: vocabulary_mismatch(target, replace(target, path=path)),
        ):
            try:
                look()
                outcomes["read"] += 1
            except LocalspecError as error:
                outcomes["refused" if str(error).isprintable() else "more than a line"] += 1
    assert min(outcomes["read"], outcomes["refused"]) > 30
    assert sum(outcomes.values()) == outcomes["read"] + outcomes["refused"] == 300
