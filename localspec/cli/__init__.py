"""The command line. Help and version import click and nothing heavier; a command's module is imported to run it.

Every command gets ``-h``, ``--debug`` and the error handling of :mod:`localspec.cli.errors` from here.
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
    "chat": "Talk with a model in the terminal.",
    "generate": "Answer one prompt, or a file of them.",
    "bench": "Measure what drafting brings.",
    "tune": "Measure what passes cost here, at length.",
    "pull": "Fetch a model and its drafter from the Hub.",
    "list": "Show the models on disk, with their drafters.",
    "rm": "Remove a pulled model from the disk.",
    "convert": "Convert a Hugging Face checkpoint to GGUF.",
    "quantize": "Quantise a GGUF file.",
    "trim-draft": "Make a drafter cheaper: only the tokens that matter.",
    "imatrix": "Measure an importance matrix for quantising.",
    "inspect": "Show what a GGUF file holds.",
    "config": "Show or change the defaults of the flags.",
    "completion": "Print what makes a shell complete.",
    "devices": "List what llama.cpp can compute on here.",
    "doctor": "Say what works here, and how sure the output is.",
}

#: Commands of the converter. They are found by name, so that no import leads from ``localspec`` to ``gguf_convert``.
CONVERTER = ("convert", "quantize", "trim-draft", "imatrix")
#: Set where a shell asks for completions (click's name for it).
_COMPLETING = "_LOCALSPEC_COMPLETE"


class Program(click.Group):
    """The command group: commands by name, loaded when asked for; errors printed in one place."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        package = "gguf_convert" if cmd_name in CONVERTER else "localspec.cli"
        command: click.Command = getattr(import_module(f"{package}.commands.{name}"), name)
        if not any("--debug" in parameter.opts for parameter in command.params):
            debug_option(command)
        if _COMPLETING in os.environ:
            from localspec.cli.shell_completion import prepare

            prepare(command)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
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
        with formatter.section("Commands"):
            formatter.write_dl([*COMMANDS.items()])  # the module `list` hides the function of that name here

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        state = RunState()
        extra = {"prog_name": "localspec", "obj": state, **extra, "standalone_mode": False}

        if _COMPLETING in os.environ:
            import_module("localspec.cli.shell_completion")

        def call() -> Any:
            return super(Program, self).main(*args, **extra)

        return run(call, state) if standalone_mode else call()


@click.group(
    name="localspec",
    cls=Program,
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Try it: localspec chat. Answers go to standard output, everything else to standard error.",
)
@click.version_option(__version__, prog_name="localspec", message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context) -> None:
    """Local speculative decoding: the same output as plain decoding, sooner."""
    name = context.invoked_subcommand
    if name is None:
        click.echo(context.get_help())
    elif command := cast(click.Group, context.command).get_command(context, name):
        from localspec.cli.settings import FileDefaults

        context.default_map = {name: FileDefaults(command)}


debug_option(cli)


def main() -> None:
    """Entry point of the ``localspec`` program; never returns."""
    cli()
