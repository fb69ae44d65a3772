"""Laws of ``localspec convert`` beyond one file: a pair in one command, checked before and after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import localspec
from localspec.cli import cli
from localspec.gguf.header import read_header
from localspec.gguf.types import TYPE_NAMES
from localspec.models.pairing import find_drafter
from tests.helpers import tiny_checkpoint as tiny
from tests.helpers.paths import PROJECTORS


def run(*args: object) -> Result:
    return CliRunner().invoke(cli, ["convert", *map(str, args)])


def made_of(path: Path) -> set[str]:
    return {TYPE_NAMES[tensor.type] for tensor in read_header(path).tensors if len(tensor.shape) > 1}


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A target's and its assistant's checkpoints, ``it`` and ``it-assistant``."""
    tiny.write(tmp_path / "it")
    tiny.write(tmp_path / "it-assistant", tiny.assistant_config())
    return tmp_path


def test_a_pair_is_converted_in_one_command(pair: Path) -> None:
    """Each for its role, where -d auto finds them, and they draft together."""
    out = pair / "new" / "out"
    result = run(pair / "it", "--with-draft", pair / "it-assistant", "-o", out, "--type", "Q4_0", "--verify")
    assert (result.exit_code, result.stdout) == (0, ""), result.stderr
    target, assistant = out / "it-Q4_0.gguf", out / "mtp-it-assistant-Q4_0.gguf"
    assert sorted(out.iterdir()) == [target, assistant]
    assert find_drafter(read_header(target)) == assistant
    assert made_of(assistant) == {"Q4_0"}
    assert made_of(target) == {"Q4_0", "Q8_0"}
    assert "llama.cpp loads and decodes both." in result.stderr
    with localspec.load(str(target), threads=1) as llm:
        assert "mtp" in llm.drafters
        assert len(llm.generate("hello", max_tokens=8, temperature=0).tokens) > 0


def test_a_pair_may_have_another_type(pair: Path) -> None:
    """Floats have no roles."""
    result = run(pair / "it", "--with-draft", pair / "it-assistant", "-o", pair / "out", "--type", "f16")
    assert result.exit_code == 0, result.stderr
    assert made_of(pair / "out" / "it-F16.gguf") == made_of(pair / "out" / "mtp-it-assistant-F16.gguf") == {"F16"}


def test_a_draft_model_of_the_same_vocabulary_is_a_pair(pair: Path) -> None:
    """One that stands alone keeps its name."""
    tiny.write(
        pair / "small", tiny.text_config(num_hidden_layers=2, layer_types=tiny.LAYERS[:2], num_kv_shared_layers=0)
    )
    result = run(pair / "it", "--with-draft", pair / "small", "-o", pair / "out")
    assert result.exit_code == 0, result.stderr
    assert sorted(path.name for path in (pair / "out").iterdir()) == ["it-Q4_0.gguf", "small-Q4_0.gguf"]


def other_words() -> dict[str, Any]:
    made = tiny.tokenizer()
    vocabulary = made["model"]["vocab"]
    vocabulary["zz"] = vocabulary.pop("z")
    return made


def test_what_does_not_pair_is_refused_before_anything_is_written(pair: Path) -> None:
    """With the reason."""
    tiny.write(pair / "wide", tiny.assistant_config(backbone_hidden_size=128))
    tiny.write(pair / "other", vocabulary=other_words())
    for draft, reason in (("wide", "hidden rows of width 128"), ("other", "b'z' in one and b'zz' in the other")):
        result = run(pair / "it", "--with-draft", pair / draft, "-o", pair / "out")
        assert result.exit_code == 1
        assert reason in result.stderr
        assert "cannot draft for" in result.stderr
        assert not (pair / "out").exists()


def test_target_and_assistant_the_wrong_way_round(pair: Path) -> None:
    """Their architectures tell them apart."""
    result = run(pair / "it-assistant", "--with-draft", pair / "it", "-o", pair / "out")
    assert result.exit_code == 1
    assert "give the target's checkpoint first" in result.stderr
    assert run(pair / "it", "--with-draft", pair / "it-assistant", "-o", pair / "out", "--for", "target").exit_code == 2


@pytest.mark.parametrize(
    ("options", "types"),
    [
        ((), {"Q8_0"}),
        (("--exact",), {"Q4_0", "Q8_0"}),
        (("--for", "drafter"), {"Q4_0", "Q8_0"}),
        (("--type", "Q5_0"), {"Q5_0", "Q8_0", "F32"}),
    ],
)
def test_one_file_by_type_or_recipe(pair: Path, options: tuple[str, ...], types: set[str]) -> None:
    """The summary names the type or recipe; --verify loads the file as well."""
    result = run(pair / "it", "-o", pair / "m.gguf", *options, "--verify")
    assert result.exit_code == 0, result.stderr
    assert made_of(pair / "m.gguf") <= types
    assert result.stderr.splitlines()[-1] == "llama.cpp loads and decodes it."


def test_an_assistant_alone_is_not_tried(pair: Path) -> None:
    """It computes nothing without a target; its values are compared all the same."""
    result = run(pair / "it-assistant", "-o", pair / "a.gguf", "--verify")
    assert result.exit_code == 0
    assert result.stderr.splitlines()[-2].startswith("Checked ")
    assert result.stderr.splitlines()[-1] == "An assistant runs with its target only, so llama.cpp did not try it."


def test_a_type_and_a_recipe_that_do_not_go_together(pair: Path) -> None:
    """Are wrong usage, and nothing is written."""
    result = run(pair / "it", "-o", pair / "m.gguf", "--exact", "--type", "Q4_K_M")
    assert result.exit_code == 2
    assert "choose Q4_0 or Q8_0" in result.stderr
    assert not (pair / "m.gguf").exists()


def test_mmproj_writes_the_projector_alone(tmp_path: Path) -> None:
    out = tmp_path / "mmproj.gguf"
    result = run(PROJECTORS / "gemma4_12b", "--mmproj", out, "--verify")
    assert result.exit_code == 0, result.stderr
    assert "clip, F16" in result.stderr
    assert "Checked 11 tensors of the projector" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mmproj.gguf"]


def test_neither_output_nor_mmproj_is_wrong_usage(tmp_path: Path) -> None:
    assert run(PROJECTORS / "gemma4_12b").exit_code == 2
