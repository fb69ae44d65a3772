"""What the README shows works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from localspec.cli import cli

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_python_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """As it stands, on the built-in pair."""
    (code,) = blocks("python")
    names: dict[str, object] = {}
    exec(code, names)
    assert len(capsys.readouterr().out) > 100
    assert "cat" in names["reply"].text  # type: ignore[attr-defined]


def commands() -> list[list[str]]:
    lines = [line.partition("  #")[0] for block in blocks("sh") for line in block.splitlines()]
    found = [part for line in lines for part in re.findall(r"(?:^|\| )(localspec .*?)(?:>|$)", line.strip())]
    return [shlex.split(command)[1:] for command in found]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_commands_parse(command: list[str]) -> None:
    """Every command and flag exists; the files that they name do not."""
    name, *arguments = command
    program = cli.make_context("localspec", [name], resilient_parsing=True)
    sub = cli.get_command(program, name)
    assert sub is not None
    assert sub.make_context(name, arguments, parent=program).command is sub


def test_scripts_exist_and_run() -> None:
    """The two commands of the README are files that can be run."""
    for script in re.findall(r"^(scripts/\w+) ", README, re.MULTILINE):
        assert (Path(__file__).parent.parent / script).stat().st_mode & 0o111
