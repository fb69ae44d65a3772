"""Laws of the prompts that are measured on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from localspec.bench.prompts import BenchPrompt, choose, read_prompts
from localspec.errors import InputError

GOOD = '{"id": "a", "category": "chat", "messages": [{"role": "user", "content": "Hello"}]}'


def test_built_in_prompts_are_two_of_each_category() -> None:
    """Eight kinds of text."""
    counts = Counter(prompt.category for prompt in read_prompts())
    assert counts == dict.fromkeys(("code", "edit", "summarization", "rag", "translation", "math", "qa", "chat"), 2)


def test_blank_lines_and_a_mark_of_order_are_skipped(tmp_path: Path) -> None:
    """A category may be left out."""
    file = tmp_path / "p.jsonl"
    file.write_text("\ufeff" + GOOD + "\n\n" + '{"id": 7, "messages": [{"role": "user", "content": "\u2028"}]}\n')
    found = read_prompts(file)
    assert [(prompt.id, prompt.category) for prompt in found] == [("a", "chat"), ("7", "all")]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("7", "not a JSON object"),
        ('{"messages": []}', 'no "id"'),
        ('{"id": "a"}', 'no "messages"'),
        ('{"id": true, "messages": [{"role": "user", "content": "x"}]}', '"id"'),
        ('{"id": "a", "category": [], "messages": [{"role": "user", "content": "x"}]}', '"category"'),
        ('{"id": "a", "messages": []}', "list of messages"),
        ('{"id": "a", "messages": [{"role": "king", "content": "x"}]}', "king"),
        ('{"id": "a", "messages": [{"role": "user", "content": 7}]}', "7"),
        ('{"id": "a", "messages": [{"role": "user", "content": "\\ud800"}]}', "surrogate"),
        ('{"id": "a", "messages": [{"role": "assistant", "content": "x"}]}', "user message"),
    ],
)
def test_a_bad_line_is_told_with_its_number(tmp_path: Path, line: str, says: str) -> None:
    """One sentence."""
    file = tmp_path / "p.jsonl"
    file.write_text(f"{GOOD}\n{line}\n")
    with pytest.raises(InputError, match="line 2 of") as told:
        read_prompts(file)
    assert says in str(told.value)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe", GOOD.encode() + b"\n" + GOOD.encode()])
def test_a_file_without_prompts_is_refused(tmp_path: Path, content: bytes) -> None:
    """Empty, not UTF-8, or with one id twice; and a file that is not there."""
    file = tmp_path / "p.jsonl"
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"p\.jsonl"):
        read_prompts(file)
    with pytest.raises(InputError, match="absent"):
        read_prompts(tmp_path / "absent")


def test_a_run_cut_short_has_all_categories() -> None:
    """The first of each, then the second of each; or only what was named."""
    prompts = [BenchPrompt(f"{category}{i}", category, ()) for category in "ab" for i in range(2)]
    assert [prompt.id for prompt in choose(prompts, ())] == ["a0", "b0", "a1", "b1"]
    assert [prompt.id for prompt in choose(prompts, ["b", "b"])] == ["b0", "b1"]
    with pytest.raises(InputError, match="there are a, b"):
        choose(prompts, ["c"])
