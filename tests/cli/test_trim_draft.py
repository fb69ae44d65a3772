"""Laws of ``localspec trim-draft``: options reach the converter, and a summary explains the result."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from localspec.cli import cli
from localspec.gguf.header import read_header
from tests.helpers.trim_models import KEEP, SIZE, whole_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whole_model(tmp_path_factory.mktemp("model"))


def run(*args: object) -> Result:
    return CliRunner().invoke(cli, ["trim-draft", *map(str, args)])


def test_says_what_it_made(model: Path, tmp_path: Path) -> None:
    """The number of tokens, the bytes that a step reads, and the share of the text covered; on standard error."""
    (tmp_path / "text.txt").write_text("fqfq jxjx", encoding="utf-8")
    out = tmp_path / "t.gguf"
    result = run(model, out, "--keep", KEEP, "--from", tmp_path / "text.txt")
    assert (result.exit_code, result.stdout) == (0, ""), result.stderr
    assert f"Wrote {out} ({KEEP} of {SIZE} tokens, " in result.stderr
    assert "A draft step reads " in result.stderr
    assert "100.00% of the tokens of the text" in result.stderr
    assert b"fq" in read_header(out).strings("tokenizer.ggml.tokens")


def test_without_a_text_it_says_what_decides(model: Path, tmp_path: Path) -> None:
    """The tokenizer's own order."""
    result = run(model, tmp_path / "t.gguf", "--keep", KEEP)
    assert result.exit_code == 0
    assert "the order of the tokenizer" in result.stderr


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        (("--keep", 0), 2, "--keep"),
        (("--keep", 64), 1, "too few"),
        (("--keep", SIZE), 1, "nothing to trim"),
        (("--from", "missing"), 1, "does not exist"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    model: Path, tmp_path: Path, options: tuple[object, ...], code: int, sentence: str
) -> None:
    """No file is written."""
    result = run(model, tmp_path / "t.gguf", *options)
    assert (result.exit_code, result.stdout) == (code, "")
    assert sentence in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_inspect_knows_what_it_is(model: Path, tmp_path: Path) -> None:
    """A drafter, for which nothing drafts."""
    assert run(model, tmp_path / "t.gguf", "--keep", KEEP).exit_code == 0
    said = CliRunner().invoke(cli, ["inspect", str(tmp_path / "t.gguf")]).stdout
    assert "trimmed drafter, qwen2" in said
    assert "would draft for it" not in said


def test_tiny_and_its_assistant_are_refused(tmp_path: Path) -> None:
    """Gemma 4 reads more of a token than its embedding."""
    result = run("tiny", tmp_path / "t.gguf")
    assert result.exit_code == 1
    assert "cannot be fed tokens" in result.stderr
