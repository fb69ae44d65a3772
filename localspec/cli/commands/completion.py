"""``localspec completion``: the completion script of a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from localspec.cli.terminal.bash_completion import VARIABLE


@click.command()
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(shell: str) -> None:
    """Print the script that completes commands, options, models and paths in SHELL.

    \b
    bash: add to ~/.bashrc
        eval "$(localspec completion bash)"
    zsh: add to ~/.zshrc, after compinit
        eval "$(localspec completion zsh)"
    fish: run once
        localspec completion fish > ~/.config/fish/completions/localspec.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(click.get_current_context().find_root().command, {}, "localspec", VARIABLE).source(), nl=False)
