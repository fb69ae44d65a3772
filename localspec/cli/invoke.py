"""Call one command from another, by its name."""

from __future__ import annotations

from typing import Any

import click


def run_command(command_name: str, /, **values: Any) -> None:
    """Run a command of this program with these values; its other options keep their defaults."""
    context = click.get_current_context()
    program = context.find_root().command
    command = program.get_command(context, command_name) if isinstance(program, click.Group) else None
    assert command is not None, command_name
    context.invoke(command, **values)
