"""Laws of ``localspec inspect``: it shows the content of headers; a damaged file gives one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from gguf import GGMLQuantizationType, GGUFWriter

from localspec.cli import cli
from localspec.models.resolve import TINY_TARGET
from tests.helpers.random_models import random_eagle, random_model


def run(*args: object) -> Result:
    return CliRunner().invoke(cli, ["inspect", *map(str, args)])


def seen(*args: object) -> dict[str, Any]:
    result = run("--json", *args)
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def model(path: Path, rows: int, tokens: list[str], kind: str = "Q8_0") -> Path:
    """A file with one matrix of ``rows`` rows and this vocabulary."""
    path.parent.mkdir(exist_ok=True)
    writer = GGUFWriter(path, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    values = np.zeros((rows, 34 if kind == "Q8_0" else 64), np.uint8)
    writer.add_tensor("token_embd.weight", values, raw_dtype=GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


WORDS = [f"w{i}" for i in range(40)]


def test_the_built_in_pair_is_a_pair() -> None:
    """Each names the other, in its role."""
    target, assistant = seen("tiny"), seen(TINY_TARGET.with_name("tiny-assistant.gguf"))
    assert (target["role"], assistant["role"]) == ("target", "assistant")
    assert [(Path(p["file"]).name, p["role"]) for p in target["drafters"]] == [("tiny-assistant.gguf", "assistant")]
    assert [Path(p["file"]).name for p in assistant["targets"]] == ["tiny.gguf"]


def test_sizes_add_up_to_the_file() -> None:
    """By type and by tensor; what is left is the header."""
    found = seen("tiny")
    by_type = sum(each["bytes"] for each in found["types"].values())
    assert by_type == sum(tensor["bytes"] for tensor in found["tensors"])
    assert 0 < found["bytes"] - by_type < 300_000
    assert found["parameters"] == sum(int(np.prod(tensor["shape"])) for tensor in found["tensors"])


@pytest.mark.parametrize("folder", [".", "MTP"])
def test_a_smaller_model_of_the_same_vocabulary_is_a_draft_model(tmp_path: Path, folder: str) -> None:
    """Beside it or in MTP; one of another vocabulary, or as large, is none."""
    large = model(tmp_path / "large.gguf", 100, WORDS)
    small = model(tmp_path / folder / "small.gguf", 10, [*WORDS, "one more"])
    model(tmp_path / "other.gguf", 10, [*WORDS[:-1], "different"])
    model(tmp_path / "same.gguf", 100, WORDS)
    assert [(Path(p["file"]).name, p["role"]) for p in seen(large)["drafters"]] == [("small.gguf", "draft model")]
    assert seen(small)["role"] == "draft model"
    assert seen(tmp_path / "other.gguf")["role"] == "target"


def test_the_first_tokens_may_differ(tmp_path: Path) -> None:
    """As in llama.cpp, tokens with an id below 5 are not compared."""
    large = model(tmp_path / "large.gguf", 100, WORDS)
    model(tmp_path / "small.gguf", 10, ["a", "b", "c", "d", "e", *WORDS[5:]])
    assert len(seen(large)["drafters"]) == 1


def test_exact_rows_are_told_by_the_types(tmp_path: Path) -> None:
    """With the matrix that ends them."""
    exact, floats = model(tmp_path / "q.gguf", 9, WORDS), model(tmp_path / "f.gguf", 9, WORDS, "F16")
    assert seen(exact)["exact_rows"] is True
    assert seen(floats)["exact_rows"] is False
    assert "token_embd.weight is F16" in run(floats).stdout


def test_text_holds_every_key_and_tensor() -> None:
    """A line each."""
    found, text = seen("tiny"), run("tiny", "--tensors").stdout
    assert all(f"\n{key}: " in text for key in found["metadata"])
    assert all(f"\n{tensor['name']} " in text for tensor in found["tensors"])


def test_texts_of_a_file_do_not_reach_the_terminal_raw(tmp_path: Path) -> None:
    """No escape sequence, no line of its own."""
    writer = GGUFWriter(tmp_path / "evil.gguf", "llama")
    writer.add_name("a\x1b[2J\nb\x9bc")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    text = run(tmp_path / "evil.gguf").stdout
    assert "general.name: a [2J b c\n" in text


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"PK\x03\x04", "not a GGUF file"), (TINY_TARGET.read_bytes()[:50_000], "damaged or incomplete")],
)
def test_a_damaged_file_is_one_sentence(tmp_path: Path, content: bytes, sentence: str) -> None:
    """On standard error, with exit code 1."""
    (tmp_path / "m.gguf").write_bytes(content)
    result = run(tmp_path / "m.gguf")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert sentence in result.stderr


def test_a_damaged_file_beside_is_passed_over(tmp_path: Path) -> None:
    """It is not the inspected file."""
    model(tmp_path / "m.gguf", 9, WORDS)
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    assert seen(tmp_path / "m.gguf")["drafters"] == []


def test_prediction_heads_are_named(tmp_path: Path) -> None:
    """In a target's own file, and alone beside a target."""
    own = random_model(tmp_path / "own" / "own.gguf", "qwen35", heads=1)
    assert "It has prediction heads, which draft for it (-d mtp)." in run(own).stdout
    target = random_model(tmp_path / "target.gguf", "qwen35")
    alone = random_model(tmp_path / "mtp-target.gguf", "qwen35", heads=1, part="heads")
    found = seen(alone)
    assert (found["role"], [Path(p["file"]).name for p in found["targets"]]) == ("prediction heads", ["target.gguf"])
    assert [(Path(p["file"]).name, p["role"]) for p in seen(target)["drafters"]] == [
        ("mtp-target.gguf", "prediction heads")
    ]


def test_an_eagle_head_is_named(tmp_path: Path) -> None:
    """With the target that it goes with."""
    target = random_model(tmp_path / "target.gguf", "qwen35")
    head = random_eagle(tmp_path / "eagle3-target.gguf", target)
    random_eagle(tmp_path / "other.gguf", TINY_TARGET)
    found = seen(head)
    assert (found["role"], [Path(p["file"]).name for p in found["targets"]]) == ("EAGLE-3 head", ["target.gguf"])
    assert [(Path(p["file"]).name, p["role"]) for p in seen(target)["drafters"]] == [(head.name, "EAGLE-3 head")]
