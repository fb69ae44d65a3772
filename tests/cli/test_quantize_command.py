"""Laws of ``localspec quantize``: options reach the quantiser, and its output is one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from localspec.cli import cli
from localspec.gguf.header import read_header
from localspec.gguf.types import TYPE_NAMES
from localspec.models.resolve import TINY_TARGET


def run(*args: object) -> Result:
    return CliRunner().invoke(cli, ["quantize", *map(str, args)])


def types(path: Path) -> dict[str, str]:
    return {tensor.name: TYPE_NAMES[tensor.type] for tensor in read_header(path).tensors}


def test_types_can_be_given_by_tensor(tmp_path: Path) -> None:
    """The rest follows --type; the summary goes to standard error."""
    out = tmp_path / "q.gguf"
    result = run(TINY_TARGET, out, "--type", "q4_0", "--requantize", "--tensor-type", "ffn_(up|gate)=Q5_0", "-t", 1)
    assert (result.exit_code, result.stdout) == (0, ""), result.stderr
    assert result.stderr.startswith(f"Wrote {out} (gemma4, Q4_0, ")
    found = types(out)
    assert (found["blk.0.ffn_up.weight"], found["blk.0.attn_q.weight"]) == ("Q5_0", "Q4_0")


def test_for_and_exact_need_no_type(tmp_path: Path) -> None:
    """Their type is Q4_0."""
    for option in (("--exact",), ("--for", "drafter")):
        assert run(TINY_TARGET, tmp_path / "q.gguf", *option, "--requantize", "--force").exit_code == 0
        assert types(tmp_path / "q.gguf")["blk.0.ffn_up.weight"] == "Q4_0"


@pytest.mark.parametrize(
    ("options", "code", "sentence"),
    [
        ((), 2, "give a type, --for target, --for drafter or --exact"),
        (("--type", "Q4_0"), 1, "--requantize"),
        (("--type", "Q8_0"), 1, "already is Q8_0"),
        (("--type", "Q4_0", "--tensor-type", "Q8_0"), 2, "takes PATTERN=TYPE, not 'Q8_0'"),
        (("--type", "Q4_0", "--tensor-type", "ffn=Q9"), 2, "'Q9' is no type of a tensor"),
        (("--exact", "--type", "IQ4_NL"), 2, "choose Q4_0 or Q8_0"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    tmp_path: Path, options: tuple[str, ...], code: int, sentence: str
) -> None:
    """No file is written."""
    result = run(TINY_TARGET, tmp_path / "q.gguf", *options)
    assert (result.exit_code, result.stdout) == (code, "")
    assert sentence in result.stderr
    assert list(tmp_path.iterdir()) == []
