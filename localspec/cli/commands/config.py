"""``localspec config``: the settings, their values, and where those come from."""

from __future__ import annotations

import json
import os
import re
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import click

from localspec.cli.errors import debug_option, tell
from localspec.cli.terminal.style import Style, columns
from localspec.errors import LocalspecError, UsageError

if TYPE_CHECKING:
    from localspec.cli.settings import Setting
    from localspec.cli.settings_file import Value

_NO_FILES = ("tiny", "auto", "none", "ngram")


@click.group(
    invoke_without_command=True,
    short_help="Show or change the defaults of the flags.",
    subcommand_metavar="[COMMAND] [ARGS]...",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object in place of text.")
@click.pass_context
def config(context: click.Context, as_json: bool) -> None:
    """Show every setting, its value, and where that comes from.

    A setting is the default of a flag. It is looked for in the environment (LOCALSPEC_MODEL for --model,
    LOCALSPEC_CTX_SIZE for --ctx-size, and so on), then in the settings file ($LOCALSPEC_CONFIG names another one). A
    flag beats both.
    """
    if context.invoked_subcommand is None:
        _show(as_json)


@config.command()
@click.argument("key", metavar="KEY")
def get(key: str) -> None:
    """Print the value of a setting; nothing where it is left to the model or the machine."""
    from localspec.cli.settings import find
    from localspec.cli.settings_file import as_text

    value, _ = _values()[find(key).key]
    if value is not None:
        click.echo(as_text(value))


@config.command("set", context_settings={"ignore_unknown_options": True})
@click.argument("key", metavar="KEY")
@click.argument("value")
def set_value(key: str, value: str) -> None:
    """Keep VALUE in the settings file, if the flag would take it."""
    from localspec.cli.messages import argument
    from localspec.cli.settings import check, find, keep
    from localspec.cli.settings_file import as_text

    setting = find(key)
    checked = check({setting.key: _from_anywhere(setting, argument(value, "the value"))})[setting.key]
    path = keep(setting.key, checked)
    tell(f"{setting.key} is {as_text(checked)} from now on ({path}).")
    _tell_of_environment(setting.key)


@config.command()
@click.argument("key", metavar="KEY")
def unset(key: str) -> None:
    """Take a setting out of the settings file."""
    from localspec.cli.settings import find, keep

    setting = find(key)
    path = keep(setting.key, None)
    tell(f"{setting.key} is not in {path} any more.")
    _tell_of_environment(setting.key)


@config.command()
def path() -> None:
    """Print where the settings file is, or would be."""
    from localspec.cli.settings_file import settings_path

    click.echo(str(settings_path()))


@config.command()
def edit() -> None:
    """Open the settings file in your editor ($VISUAL or $EDITOR), and check it afterwards."""
    from localspec.cli.settings import file_values
    from localspec.cli.settings_file import FIRST_LINE, settings_path, write

    file = settings_path()
    if not file.exists():
        write(file, f"{FIRST_LINE}\n")
    click.edit(filename=str(file))
    _, notices = file_values(file)
    for notice in notices:
        tell(notice)


for _command in config.commands.values():
    debug_option(_command)


def _values() -> dict[str, tuple[Value | None, str]]:
    """Setting → its value (None: left to the model or the machine) and where it comes from.

    What is wrong in the file or the environment is told of, and left out.
    """
    from localspec.cli.settings import check, environment, file_values, settings
    from localspec.cli.settings_file import settings_path

    found: dict[str, tuple[Value | None, str]] = {key: (one.default, "default") for key, one in settings().items()}
    try:
        values, notices = file_values(settings_path())
        found.update((key, (value, "file")) for key, value in values.items())
    except LocalspecError as error:
        notices = (str(error),)
    for notice in notices:
        tell(notice)
    for key, text in environment().items():
        variable = settings()[key].variable
        try:
            found[key] = (check({key: text})[key], variable)
        except UsageError as error:
            tell(f"{variable}: {error}")
    return found


def _show(as_json: bool) -> None:
    from localspec.cli.settings_file import as_text, settings_path

    found = _values()
    if as_json:
        click.echo(json.dumps({key: {"value": value, "source": source} for key, (value, source) in found.items()}))
        return
    style = Style.of(sys.stdout)
    left = max(map(len, found)) + 2
    width = max(columns(sys.stdout), left + 20) if sys.stdout.isatty() else 100
    # What was set comes last, where a screen that is shorter than the list still shows it.
    for key, (value, source) in sorted(found.items(), key=lambda row: row[1][1] != "default"):
        shown = _left_open(key) if value is None else as_text(value)
        first, *rest = textwrap.wrap(f"{shown}  ({source})", width - left, break_on_hyphens=False)
        row = "\n".join([f"{key:<{left}}{first}", *(" " * left + line for line in rest)])
        click.echo(style.dim(row) if source == "default" else row, color=style.on)
    file = settings_path()
    click.echo(f"\n{file}{'' if file.exists() else ' is not there yet'}")


def _left_open(key: str) -> str:
    """What the help says of a setting that is left to the model or the machine."""
    from localspec.cli.settings import settings

    said = re.search(r"\[default: (.*)\]$", settings()[key].option.help or "")
    return said[1] if said else "none"


def _tell_of_environment(key: str) -> None:
    from localspec.cli.settings import settings

    variable = settings()[key].variable
    if os.environ.get(variable):
        tell(f"{variable} is set in the environment, and beats it.")


def _from_anywhere(setting: Setting, value: str) -> str:
    """A file named from here is found from other folders as well."""
    path = Path(value).expanduser()
    is_file = setting.option.metavar == "FILE"
    if is_file or (setting.key in ("model", "draft") and value not in _NO_FILES and path.exists()):
        return str(path.absolute())
    return value
