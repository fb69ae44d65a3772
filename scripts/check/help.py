"""Write docs/help.md from the command line's own help. ``--check`` exits 1 if the page is not current."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from localspec.cli import COMMANDS, cli

FILE = Path(__file__).resolve().parents[2] / "docs" / "help.md"
_WIDTH = 100

_HEAD = """# Commands

<!-- Made by scripts/check/help.py from the program's own help; change it there. -->

Answers go to standard output, everything else to standard error. Exit codes: 0 done, 1 failed, 2 wrong usage, 130
interrupted.
"""


def _help(command: click.Command, name: str, parent: click.Context | None = None) -> str:
    context = click.Context(
        command,
        parent,
        info_name=name,
        terminal_width=_WIDTH,
        **({} if parent else command.context_settings),
    )
    return command.get_help(context)


def render() -> str:
    """The whole page."""
    program = click.Context(cli, info_name="localspec", **cli.context_settings)
    parts = [_HEAD, f"```text\n{_help(cli, 'localspec')}\n```\n"]
    for name in COMMANDS:
        command = cli.get_command(program, name)
        assert command is not None, f"{name} is in the table of commands"
        parts.append(f"## localspec {name}\n\n```text\n{_help(command, name, program)}\n```\n")
    return "\n".join(parts)


def main() -> None:
    page = render()
    if "--check" in sys.argv[1:]:
        if not FILE.exists() or FILE.read_text(encoding="utf-8") != page:
            sys.exit("docs/help.md is not current; run: python -m scripts.check.help")
        return
    FILE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
