"""Laws of --json-schema, --grammar and formats in --jsonl: checked before a model is opened, passed on as they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from localspec.cli import cli
from localspec.cli.input.jsonl import line_format
from localspec.cli.options.format import given_format, with_format
from localspec.errors import InputError

SCHEMA = {
    "type": "object",
    "properties": {"on": {"type": "boolean"}},
    "required": ["on"],
    "additionalProperties": False,
}


def run(*arguments: str) -> Result:
    """On the built-in target alone."""
    fixed = ("generate", "-d", "none", "-t", "1", "--temp", "0", "-p", "Hello")
    return CliRunner().invoke(cli, [*fixed, *arguments])


def test_a_schema_inline_or_in_a_file(tmp_path: Path) -> None:
    """The same options, and an answer that follows them."""
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(SCHEMA), encoding="utf-8")
    assert given_format(json.dumps(SCHEMA), None) == given_format(str(file), None)
    assert json.loads(run("--json-schema", str(file)).stdout)["on"] in (True, False)


def test_a_grammar_from_a_file(tmp_path: Path) -> None:
    """Its text is the answer's."""
    file = tmp_path / "yes.gbnf"
    file.write_text('root ::= "yes" | "no"\n', encoding="utf-8")
    assert run("--grammar", str(file)).stdout in ("yes\n", "no\n")


@pytest.mark.parametrize("text", ['{"type": ', '{"not": {}}', "no such file.json"])
def test_a_bad_schema_is_refused_before_the_model(text: str) -> None:
    """The model of this test does not exist."""
    found = CliRunner().invoke(cli, ["generate", "-m", "nowhere.gguf", "-p", "x", "--json-schema", text])
    assert found.exit_code == 1
    assert found.stderr.count("\n") == 1
    assert "nowhere" not in found.stderr


def test_a_line_brings_its_own_format() -> None:
    """In the place of the command line's, and its number is in a message about it."""
    own = {"response_format": {"type": "json_object"}}
    assert line_format({"id": 1, "messages": [], **own}, "line 1") == own
    assert with_format({"seed": 1, "grammar": "root ::= [a]"}, own) == {"seed": 1, **own}
    assert with_format({"seed": 1, "grammar": "root ::= [a]"}, {}) == {"seed": 1, "grammar": "root ::= [a]"}
    with pytest.raises(InputError, match="line 3: response_format"):
        line_format({"response_format": {"type": "xml"}}, "line 3")
