"""Which options are settings, and what the settings file and the environment say for them.

A shared option that takes one value is a setting: its key is its first long flag, its environment variable
``LOCALSPEC_`` and the key. A flag beats the environment, and that the file (click's ``default_map``). Values are
checked by parsing them as the flag would be. The file is read when a command's first option asks for its default, so
help and completion never read it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from localspec.cli.settings_file import Value, as_text, changed, line_of, parse, read_text, settings_path, write
from localspec.errors import InputError, UsageError

_PREFIX = "LOCALSPEC_"
_Bundle = Callable[[Callable[..., None]], Callable[..., None]]
_BUNDLES: list[_Bundle] = []


def define(*bundles: _Bundle) -> None:
    """Take the options of these decorators as settings, in the order of the help."""
    _BUNDLES.extend(bundles)


@dataclass(frozen=True)
class Setting:
    """A setting, the parameter that it gives a default to, and the environment variable that does so as well."""

    key: str
    name: str
    variable: str
    option: click.Option

    @property
    def default(self) -> Value | None:
        """What it is where nothing is set; None: that depends on the model or the machine."""
        value = False if self.option.is_flag else self.option.default
        return value if isinstance(value, (str, int, float)) else None


def key_of(option: click.Option) -> str:
    """``temp`` for ``--temp``."""
    return next(flag for flag in option.opts if flag.startswith("--"))[2:]


def make_setting(option: click.Option) -> None:
    """Give the option its environment variable, which also marks it."""
    option.envvar = f"{_PREFIX}{key_of(option).upper().replace('-', '_')}"


def _marked(command: click.Command) -> list[click.Option]:
    return [
        option
        for option in command.params
        if isinstance(option, click.Option) and str(option.envvar or "").startswith(_PREFIX)
    ]


@cache
def _probe() -> tuple[click.Command, Mapping[str, Setting]]:
    """A command that only checks its options, and reads no environment; and all settings by key."""

    def nothing(**_: Any) -> None:
        """Accept any arguments."""

    for bundle in reversed(_BUNDLES):
        nothing = bundle(nothing)
    probe = click.command("probe", add_help_option=False)(nothing)

    settings = {}
    for option in _marked(probe):
        key = key_of(option)
        settings[key] = Setting(key, str(option.name), str(option.envvar), option)
        option.envvar = None
    return probe, settings


def settings() -> Mapping[str, Setting]:
    """All settings by key, in the order of the help."""
    return _probe()[1]


def find(key: str) -> Setting:
    """The setting of that key, with ``_`` for ``-`` if one likes. Raises :class:`UsageError` where there is none."""
    name = key.removeprefix("--").replace("_", "-").lower()
    if name not in settings():
        raise UsageError(f"there is no setting {key!r}. {_near(name)}")
    return settings()[name]


def _near(key: str) -> str:
    near = get_close_matches(key, settings(), n=1)
    return f"Did you mean {near[0]}?" if near else "`localspec config` lists them."


def check(texts: Mapping[str, str]) -> dict[str, Value]:
    """Setting → its value, of settings given as text. Raises :class:`UsageError` as the flags would."""
    probe, known = _probe()
    flags = {key: text for key, text in texts.items() if known[key].option.is_flag}
    try:
        switches = {key: bool(click.BOOL.convert(text, known[key].option, None)) for key, text in flags.items()}
        arguments = [f"--{key}={text}" for key, text in texts.items() if key not in flags]
        with probe.make_context("probe", arguments) as context:
            values = {key: context.params[known[key].name] for key in texts if key not in flags}
            probe.invoke(context)
    except click.BadParameter as error:
        key = key_of(error.param) if isinstance(error.param, click.Option) else "setting"
        raise UsageError(f"{key}: {error.message}") from None
    return {**values, **switches}


def file_values(path: Path) -> tuple[dict[str, Value], tuple[str, ...]]:
    """The settings in the file, checked, and a sentence for every key that is none.

    Raises :class:`InputError` with the line for a file that is damaged or holds a value that is not allowed.
    """
    text = read_text(path)
    found = parse(text, path) if text else {}
    values: dict[str, Value] = {}
    for key in found.keys() & settings().keys():
        try:
            values |= check({key: as_text(found[key])})
        except UsageError as error:
            raise InputError(f"{path} line {line_of(text, key)}: {error}") from None
    return values, _strange(found, text, path)


def _strange(found: Mapping[str, Value], text: str, path: Path) -> tuple[str, ...]:
    return tuple(
        f"{path} line {line_of(text, key)}: there is no setting {key!r}. {_near(key)}"
        for key in found
        if key not in settings()
    )


def keep(key: str, value: Value | None) -> Path:
    """Put a checked value into the settings file, or take it out (None). Raises :class:`InputError` and OSError."""
    path = settings_path()
    write(path, changed(read_text(path), key, value, path))
    return path


class FileDefaults(Mapping[str, str]):
    """What the settings file says for the options of one command, by parameter; nothing while help is written.

    A value is checked as far as its option's type does; for the rest see :func:`naming_sources`.
    """

    def __init__(self, command: click.Command) -> None:
        self._options = {str(option.name): option for option in _marked(command)}
        self._values: Mapping[str, Value] | None = None
        self._text, self._path = "", Path()

    def place(self, key: str) -> str:
        """The file and the line that a setting is in."""
        return f"{self._path} line {line_of(self._text, key)}"

    def _read(self) -> Mapping[str, Value]:
        context = click.get_current_context(silent=True)
        if context is None or context.resilient_parsing:
            return {}
        if self._values is None:
            self._path = settings_path()
            self._text = read_text(self._path)
            self._values = parse(self._text, self._path) if self._text else {}
            if self._values.keys() - {key_of(option) for option in self._options.values()}:
                from localspec.cli.errors import tell

                for notice in _strange(self._values, self._text, self._path):
                    tell(notice)
        return self._values

    def __getitem__(self, name: str) -> str:
        option = self._options[name]  # a parameter that is no setting reads nothing
        key = key_of(option)
        text = as_text(self._read()[key])
        try:
            option.type.convert(text, option, None)
        except click.BadParameter as error:
            raise InputError(f"{self.place(key)}: {key}: {error.message}") from None
        return text

    def __iter__(self) -> Iterator[str]:
        return (name for name, option in self._options.items() if key_of(option) in self._read())

    def __len__(self) -> int:
        return sum(1 for _ in self)


@contextmanager
def naming_sources() -> Iterator[None]:
    """A value that is refused and came from the environment or the file is told with its variable, or its line."""
    try:
        yield
    except UsageError as error:
        context = click.get_current_context()
        for option in _marked(context.command):
            key, source = key_of(option), context.get_parameter_source(str(option.name))
            if source is ParameterSource.ENVIRONMENT:
                _blame(key, os.environ[str(option.envvar)], str(option.envvar))
            elif source is ParameterSource.DEFAULT_MAP and isinstance(context.default_map, FileDefaults):
                _blame(key, context.default_map[str(option.name)], context.default_map.place(key))
        raise error


def _blame(key: str, text: str, place: str) -> None:
    """Raise :class:`UsageError` with the place, if that value is what is refused."""
    try:
        check({key: text})
    except UsageError as error:
        raise UsageError(f"{place}: {error}") from None


def environment() -> dict[str, str]:
    """Setting → text, of the environment variables that are set; an empty one is not."""
    found = {key: os.environ.get(setting.variable) for key, setting in settings().items()}
    return {key: text for key, text in found.items() if text}
