"""The one place that prints errors and decides exit codes.

0 done, 1 failed, 2 wrong usage, 130 interrupted. A message is ``localspec: sentence`` on standard error; a traceback
is printed only with ``--debug``.
"""

from __future__ import annotations

import errno
import os
import sys
import textwrap
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import click
from click.core import ParameterSource

from localspec.cli.terminal.style import columns
from localspec.errors import LocalspecError

INTERRUPTED = 130

Decorated = TypeVar("Decorated", bound="Callable[..., Any] | click.Command")


@dataclass
class RunState:
    """What one run of the program knows from its first option on (click's ``obj``)."""

    debug: bool = False


def debugging() -> bool:
    """Whether ``--debug`` was given, before or after the command."""
    context = click.get_current_context(silent=True)
    state = context.find_object(RunState) if context else None
    return state is not None and state.debug


def _set_debug(context: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(RunState).debug = True


def debug_option(target: Decorated) -> Decorated:
    """Give a command ``--debug``."""
    return click.option(
        "--debug",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_set_debug,
        help="Show the traceback of an error.",
    )(target)


def tell(message: str) -> None:
    """A line of ours on standard error, as every error and notice looks; in a terminal no word is cut in two."""
    line = f"localspec: {message}"
    if sys.stderr.isatty() and "\n" not in message:
        width = max(columns(sys.stderr), 20)
        line = textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)
    click.echo(line, err=True)


def describe(error: Exception, debug: bool) -> str:
    """The sentence for an error; with ``debug`` its traceback goes before it."""
    trace = "".join(traceback.format_exception(error)) if debug else ""
    if isinstance(error, LocalspecError):
        return f"{trace}{error}"
    if isinstance(error, MemoryError):
        return f"{trace}there is not enough memory; try a smaller model or a smaller --ctx-size."
    if isinstance(error, OSError) and error.strerror:
        place = f" ({error.filename})" if error.filename else ""
        return f"{trace}the system says: {error.strerror}{place}; check disk space and permissions."
    kind, text = type(error).__name__, " ".join(str(error).split())
    next_step = "Please report it" if debug else "Run the command again with --debug and report what it prints"
    return f"{trace}this is a fault of localspec itself ({kind}: {text}). {next_step}."


def _usage(error: click.ClickException) -> None:
    message = error.format_message()
    message = message[:1].lower() + message[1:]  # click's sentences begin with a capital, ours do not
    tell(f"{_variable(error)}{message}")
    context = getattr(error, "ctx", None)
    if context is not None:
        click.echo(f"Try '{context.command_path} -h' for help.", err=True)


def _variable(error: click.ClickException) -> str:
    """The environment variable that a refused value came from, if it did."""
    context, option = getattr(error, "ctx", None), getattr(error, "param", None)
    if context is None or option is None or option.name is None:
        return ""
    from_there = context.get_parameter_source(option.name) is ParameterSource.ENVIRONMENT
    return f"{option.envvar}: " if from_there else ""


def _settle_output() -> None:
    # Flush here, where a reader that has gone can still be handled, and not at interpreter exit.
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _replace_unprintable() -> None:
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def exit_code(call: Callable[[], Any], state: RunState) -> int:
    """Run ``call``, print what goes wrong in it, and give the code to exit with."""
    try:
        result = call()
    except click.exceptions.Exit as done:
        return done.exit_code
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except click.ClickException as error:
        _usage(error)
        return error.exit_code
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.EPIPE:
            return 1  # who read our output has left, and needs no message
        tell(describe(error, state.debug))
        return error.exit_code if isinstance(error, LocalspecError) else 1
    return result if isinstance(result, int) else 0


def run(call: Callable[[], Any], state: RunState) -> NoReturn:
    """Run ``call`` and exit with its code."""
    _replace_unprintable()
    code = exit_code(call, state)
    _settle_output()
    sys.exit(code)
