"""``localspec config``: the settings, their values, and the source of each value."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import click

from localspec.cli.errors import debug_option
from localspec.cli.input.text import argument
from localspec.cli.settings import (
    Setting,
    SettingName,
    check_settings,
    environment,
    file_values,
    find_setting,
    keep_setting,
    settings,
)
from localspec.cli.settings_file import FIRST_LINE, Value, as_text, settings_path, write
from localspec.cli.terminal.notes import notice
from localspec.cli.terminal.style import Style, columns
from localspec.cli.terminal.wrap import two_columns
from localspec.errors import LocalspecError, UsageError

#: Values of --model and --draft that are no files, even if a file has that name.
_NO_FILES = ("tiny", "auto", "none", "ngram", "mtp")
#: Columns where there is no terminal.
_DEFAULT_WIDTH = 100


@click.group(invoke_without_command=True, subcommand_metavar="[COMMAND] [ARGS]...")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
@click.pass_context
def config(context: click.Context, as_json: bool) -> None:
    """Show every setting, its value and the source of the value.

    A setting is the default of an option. It comes from the environment (LOCALSPEC_MODEL for --model,
    LOCALSPEC_CTX_SIZE for --ctx-size, and so on), else from the settings file ($LOCALSPEC_CONFIG names another one).
    An option on the command line overrides both.
    """
    if context.invoked_subcommand is None:
        _show(as_json)


@config.command()
@click.argument("key", metavar="KEY", type=SettingName())
def get(key: str) -> None:
    """Print the value of a setting; nothing if it depends on the model or the machine."""
    value, _ = _values()[find_setting(key).key]
    if value is not None:
        click.echo(as_text(value))


@config.command("set", context_settings={"ignore_unknown_options": True})
@click.argument("key", metavar="KEY", type=SettingName())
@click.argument("value")
def set_value(key: str, value: str) -> None:
    """Write VALUE to the settings file, if the option accepts it."""
    setting = find_setting(key)
    checked = check_settings({setting.key: _absolute(setting, argument(value, "the value"))})[setting.key]
    path = keep_setting(setting.key, checked)
    notice(f"{setting.key} is {as_text(checked)} from now on ({path}).")
    _mention_environment(setting.key)


@config.command()
@click.argument("key", metavar="KEY", type=SettingName())
def unset(key: str) -> None:
    """Remove a setting from the settings file."""
    setting = find_setting(key)
    path = keep_setting(setting.key, None)
    notice(f"{setting.key} is not in {path} any more.")
    _mention_environment(setting.key)


@config.command()
def path() -> None:
    """Print the path of the settings file, which need not exist."""
    click.echo(str(settings_path()))


@config.command()
def edit() -> None:
    """Open the settings file in your editor ($VISUAL or $EDITOR), and check it afterwards."""
    file = settings_path()
    if not file.exists():
        write(file, f"{FIRST_LINE}\n")
    click.edit(filename=str(file))
    _, sentences = file_values(file)
    for sentence in sentences:
        notice(sentence)


for _command in config.commands.values():
    debug_option(_command)


def _values() -> dict[str, tuple[Value | None, str]]:
    """Setting → its value (None if it depends on the model or the machine) and the source of the value.

    Errors in the file and the environment are printed, and their values left out.
    """
    found: dict[str, tuple[Value | None, str]] = {key: (one.default, "default") for key, one in settings().items()}
    try:
        values, sentences = file_values(settings_path())
        found.update((key, (value, "file")) for key, value in values.items())
    except LocalspecError as error:
        sentences = (str(error),)
    for sentence in sentences:
        notice(sentence)
    for key, text in environment().items():
        variable = settings()[key].variable
        try:
            found[key] = (check_settings({key: text})[key], variable)
        except UsageError as error:
            notice(f"{variable}: {error}")
    return found


def _show(as_json: bool) -> None:
    found = _values()
    if as_json:
        click.echo(json.dumps({key: {"value": value, "source": source} for key, (value, source) in found.items()}))
        return
    style = Style.from_stream(sys.stdout)
    width = columns(sys.stdout) if sys.stdout.isatty() else _DEFAULT_WIDTH
    # Settings with a value come last: the end of a long list stays on the screen.
    ordered = sorted(found.items(), key=lambda row: row[1][1] != "default")
    rows = [
        (key, f"{_default_text(key) if value is None else as_text(value)}  ({source})")
        for key, (value, source) in ordered
    ]
    for (_, (_, source)), lines in zip(ordered, two_columns(rows, width), strict=True):
        row = "\n".join(lines)
        click.echo(style.dim(row) if source == "default" else row, color=style.on)
    file = settings_path()
    click.echo(f"\n{file}{'' if os.path.exists(file) else ' does not exist yet'}")


def _default_text(key: str) -> str:
    """The default in the option's help, of a setting that depends on the model or the machine."""
    match = re.search(r"\[default: (.*)\]$", settings()[key].option.help or "")
    return match[1] if match else "none"


def _mention_environment(key: str) -> None:
    variable = settings()[key].variable
    if os.environ.get(variable):
        notice(f"{variable} is set in the environment, and overrides it.")


def _absolute(setting: Setting, value: str) -> str:
    """Make the path of a file absolute, so that it is found from other folders."""
    path = Path(value).expanduser()
    is_file = setting.option.metavar == "FILE"
    if is_file or (setting.key in ("model", "draft") and value not in _NO_FILES and path.exists()):
        return str(path.absolute())
    return value
