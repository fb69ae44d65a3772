"""Bundles of options: a decorator adds the options to a command and passes it one object in their place.

Making that object checks the values, before any model is loaded. An option with one value is also a setting: the
environment and the settings file give it a default (:mod:`localspec.cli.settings`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any, NoReturn

import click
from click.core import ParameterSource

from localspec.errors import UsageError

#: An option as :func:`click.option` returns it.
Option = Callable[..., Any]
Decorator = Callable[[Callable[..., None]], Callable[..., None]]

#: Start of the environment variables of settings; it also marks the options that are settings.
_PREFIX = "LOCALSPEC_"


def bundle(
    name: str, make: Callable[..., Any], options: dict[str, Option], not_settings: Collection[str] = ()
) -> Decorator:
    """A decorator that adds ``options`` and calls the command with ``name=make(**values)``.

    Options in ``not_settings``, and those with several values, have no setting.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        parameters: dict[str, click.Option] = {}

        @functools.wraps(command)
        def bundled(**values: Any) -> None:
            own = {key: values.pop(key) for key in options}
            try:
                made = make(**own)
            except UsageError as error:
                _raise_with_source(error, make, own, parameters)
            command(**{name: made}, **values)

        for key, option in reversed(options.items()):
            bundled = option(bundled)
            parameters[key] = bundled.__click_params__[-1]  # type: ignore[attr-defined]
            if key not in not_settings and not parameters[key].multiple and not parameters[key].hidden:
                variable = setting_key(parameters[key]).upper().replace("-", "_")
                parameters[key].envvar = f"{_PREFIX}{variable}"
        return bundled

    return decorate


def setting_key(option: click.Option) -> str:
    """``temp`` for ``--temp``."""
    return next(flag for flag in option.opts if flag.startswith("--"))[2:]


def setting_options(command: click.Command) -> list[click.Option]:
    """The options of a command that are settings."""
    return [
        option
        for option in command.params
        if isinstance(option, click.Option) and str(option.envvar or "").startswith(_PREFIX)
    ]


def plain_default(option: click.Option) -> Any:
    """The value of an option that is not given; None if it depends on the model or the machine."""
    if option.multiple:
        return ()
    value = False if option.is_flag else option.default
    return value if isinstance(value, (str, int, float)) else None


def _raise_with_source(
    error: UsageError, make: Callable[..., Any], values: Mapping[str, Any], parameters: Mapping[str, click.Option]
) -> NoReturn:
    """Raise ``error`` with the variable, or the line of the settings file, that the refused value came from."""
    context = click.get_current_context()
    defaults = {key: plain_default(parameter) for key, parameter in parameters.items()}
    for key, parameter in parameters.items():
        source = context.get_parameter_source(key)
        if source is ParameterSource.ENVIRONMENT:
            place = str(parameter.envvar)
        elif source is ParameterSource.DEFAULT_MAP and context.default_map is not None:
            place = context.default_map.place(setting_key(parameter))  # type: ignore[attr-defined]
        else:
            continue
        try:
            make(**{**defaults, key: values[key]})
        except UsageError as own_error:
            raise UsageError(f"{place}: {own_error}") from None
    raise error
