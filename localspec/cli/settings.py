"""The settings: defaults of options from the settings file and the environment.

An option of a bundle that takes one value is a setting: its key is its first long flag, its environment variable
``LOCALSPEC_`` and the key. A flag overrides the environment, which overrides the file (click's ``default_map``).
Values are parsed as the flag would be. The file is read when a command's first option looks up its default, so help
and completion never read it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import click

from localspec.cli.options.answer import answer_options
from localspec.cli.options.bundle import plain_default, setting_key, setting_options
from localspec.cli.options.model import model_options
from localspec.cli.options.prompt import prompt_options
from localspec.cli.options.values import KnownNames
from localspec.cli.settings_file import Value, as_text, changed, line_of, parse, read_settings, settings_path, write
from localspec.cli.terminal.notes import notice
from localspec.errors import InputError, UsageError


@dataclass(frozen=True)
class Setting:
    """A setting: its key, the parameter it is a default of, its environment variable, and its option."""

    key: str
    name: str
    variable: str
    option: click.Option

    @property
    def default(self) -> Value | None:
        """The value where nothing is set; None if it depends on the model or the machine."""
        value: Value | None = plain_default(self.option)
        return value


class SettingName(KnownNames):
    """The key of a setting, as an argument."""

    def known(self) -> Iterable[str]:
        return settings()


@cache
def _probe() -> tuple[click.Command, Mapping[str, Setting]]:
    """A command that checks its options and does nothing, without defaults from the environment; and the settings."""

    def nothing(**_: Any) -> None:
        """Accept any arguments."""

    for bundle in (prompt_options, answer_options, model_options):
        nothing = bundle(nothing)
    probe = click.command("probe", add_help_option=False)(nothing)

    settings = {}
    for option in setting_options(probe):
        key = setting_key(option)
        settings[key] = Setting(key, str(option.name), str(option.envvar), option)
        option.envvar = None
    return probe, settings


def settings() -> Mapping[str, Setting]:
    """All settings by key, in the order of the help."""
    return _probe()[1]


def find_setting(key: str) -> Setting:
    """The setting of a key, which may be spelt with ``_`` or leading dashes. Raises :class:`UsageError`."""
    name = key.removeprefix("--").replace("_", "-").lower()
    if name not in settings():
        raise UsageError(f"there is no setting {key!r}. {_hint(name)}")
    return settings()[name]


def check_settings(texts: Mapping[str, str]) -> dict[str, Value]:
    """Parse settings given as text, by key. Raises :class:`UsageError` as the flags would."""
    probe, known = _probe()
    flags = {key: text for key, text in texts.items() if known[key].option.is_flag}
    try:
        switches = {key: bool(click.BOOL.convert(text, known[key].option, None)) for key, text in flags.items()}
        arguments = [f"--{key}={text}" for key, text in texts.items() if key not in flags]
        with probe.make_context("probe", arguments) as context:
            values = {key: context.params[known[key].name] for key in texts if key not in flags}
            probe.invoke(context)
    except click.BadParameter as error:
        key = setting_key(error.param) if isinstance(error.param, click.Option) else "setting"
        raise UsageError(f"{key}: {error.message}") from None
    return {**values, **switches}


def file_values(path: Path) -> tuple[dict[str, Value], tuple[str, ...]]:
    """The checked settings of a file, and a sentence for every unknown key.

    Raises :class:`InputError` with the line for a damaged file or a value that is not allowed.
    """
    text = read_settings(path)
    found = parse(text, path) if text else {}
    values: dict[str, Value] = {}
    for key in found.keys() & settings().keys():
        try:
            values |= check_settings({key: as_text(found[key])})
        except UsageError as error:
            raise InputError(f"{path} line {line_of(text, key)}: {error}") from None
    return values, _unknown(found, text, path)


def keep_setting(key: str, value: Value | None) -> Path:
    """Write a checked value to the settings file, or remove it (None). Raises :class:`InputError` and OSError."""
    path = settings_path()
    write(path, changed(read_settings(path), key, value, path))
    return path


def environment() -> dict[str, str]:
    """Key → text of the settings in the environment; an empty variable counts as unset."""
    found = {key: os.environ.get(setting.variable) for key, setting in settings().items()}
    return {key: text for key, text in found.items() if text}


class FileDefaults(Mapping[str, str]):
    """The settings file as defaults of one command, by parameter; empty while help is written.

    A value is checked by its option's type here, and by the bundle of the option later.
    """

    def __init__(self, command: click.Command) -> None:
        self._options = {str(option.name): option for option in setting_options(command)}
        self._values: Mapping[str, Value] | None = None
        self._text, self._path = "", Path()

    def place(self, key: str) -> str:
        """The file and the line of a setting."""
        return f"{self._path} line {line_of(self._text, key)}"

    def _read(self) -> Mapping[str, Value]:
        context = click.get_current_context(silent=True)
        if context is None or context.resilient_parsing:
            return {}
        if self._values is None:
            self._path = settings_path()
            self._text = read_settings(self._path)
            self._values = parse(self._text, self._path) if self._text else {}
            for sentence in _unknown(self._values, self._text, self._path):
                notice(sentence)
        return self._values

    def __getitem__(self, name: str) -> str:
        option = self._options[name]  # raises KeyError for a parameter that is no setting, before the file is read
        key = setting_key(option)
        text = as_text(self._read()[key])
        try:
            option.type.convert(text, option, None)
        except click.BadParameter as error:
            raise InputError(f"{self.place(key)}: {key}: {error.message}") from None
        return text

    def __iter__(self) -> Iterator[str]:
        return (name for name, option in self._options.items() if setting_key(option) in self._read())

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _unknown(found: Mapping[str, Value], text: str, path: Path) -> tuple[str, ...]:
    """A sentence for every key that is no setting."""
    return tuple(
        f"{path} line {line_of(text, key)}: there is no setting {key!r}. {_hint(key)}"
        for key in found
        if key not in settings()
    )


def _hint(key: str) -> str:
    near = get_close_matches(key, settings(), n=1)
    return f"Did you mean {near[0]}?" if near else "`localspec config` lists them."
