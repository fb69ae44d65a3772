"""The command line. Help and version import click and nothing heavier; a command's module is imported to run it.

Every command has ``-h``, ``--debug`` and the error handling of :mod:`localspec.cli.errors`.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import click

from localspec._version import __version__
from localspec.cli.errors import RunState, debug_option, run

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

#: Command to its line in ``localspec --help``. The module ``commands/NAME.py``, with ``_`` for ``-``, holds ``NAME``.
COMMANDS = {
    "chat": "Chat with a model in the terminal.",
    "generate": "Answer one prompt, or a file of prompts.",
    "serve": "Serve models to the clients of OpenAI and Anthropic.",
    "worker": "Offer this machine to another one's models.",
    "bench": "Compare speed with and without drafting.",
    "tune": "Measure the cost of a pass on this machine.",
    "pull": "Download a model and its drafter from the Hub.",
    "list": "List the models on disk and their drafters.",
    "rm": "Remove a pulled model from the disk.",
    "convert": "Convert a Hugging Face checkpoint to GGUF.",
    "quantize": "Quantise a GGUF file.",
    "trim-draft": "Make a drafter faster by trimming its vocabulary.",
    "imatrix": "Measure an importance matrix for quantising.",
    "inspect": "Show the contents of a GGUF file.",
    "config": "Show or change the defaults of options.",
    "completion": "Print a shell completion script.",
    "devices": "List the devices llama.cpp can use.",
    "doctor": "Check this installation.",
}

#: Commands of the converter. They are found by name, so that no import leads from ``localspec`` to ``gguf_convert``.
CONVERTER = ("convert", "quantize", "trim-draft", "imatrix")


class Program(click.Group):
    """The command group: commands are imported by name when they are run; errors are printed in one place."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        package = "gguf_convert" if cmd_name in CONVERTER else "localspec.cli"
        command: click.Command = getattr(import_module(f"{package}.commands.{name}"), name)
        command.short_help = COMMANDS[cmd_name]
        if not any("--debug" in parameter.opts for parameter in command.params):
            debug_option(command)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete command names without importing the commands, as click would."""
        from click.shell_completion import CompletionItem

        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [CompletionItem(name, help=line) for name, line in COMMANDS.items() if name.startswith(incomplete)]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            raise click.UsageError(f"there is no command {name!r}; there are {', '.join(COMMANDS)}.", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them, as click would."""
        with formatter.section("Commands"):
            formatter.write_dl([*COMMANDS.items()])  # the module `list` hides the function of that name here

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        state = RunState()
        extra = {"prog_name": "localspec", "obj": state, **extra, "standalone_mode": False}

        if "_LOCALSPEC_COMPLETE" in os.environ:  # set by a shell that asks for completions; click's name for it
            import_module("localspec.cli.terminal.bash_completion")

        def call() -> Any:
            return super(Program, self).main(*args, **extra)

        return run(call, state) if standalone_mode else call()


@click.group(
    name="localspec",
    cls=Program,
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Start with: localspec chat. Answers go to standard output, everything else to standard error.",
)
@click.version_option(__version__, prog_name="localspec", message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """Local speculative decoding: the same output as plain decoding, sooner."""
    name = context.invoked_subcommand
    if name is None:
        click.echo(context.get_help())
    elif command := cast(click.Group, context.command).get_command(context, name):
        _set_defaults(context, name, command)


def _set_defaults(context: click.Context, name: str, command: click.Command) -> None:
    """Take defaults from the settings file, if the command has options that are settings."""
    from localspec.cli.options.bundle import setting_options

    if setting_options(command):
        from localspec.cli.settings import FileDefaults

        context.default_map = {name: FileDefaults(command)}


debug_option(cli)


def main() -> None:
    """Entry point of the ``localspec`` program; never returns."""
    cli()
