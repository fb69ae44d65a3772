"""Prints errors and decides exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.

A message is ``localspec: sentence`` on standard error; a traceback is printed only with ``--debug``.
"""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import click
from click.core import ParameterSource

from localspec.cli.terminal.notes import Notes, notice
from localspec.cli.terminal.streams import flush_output, prepare_streams
from localspec.errors import LocalspecError

INTERRUPTED = 130

Decorated = TypeVar("Decorated", bound="Callable[..., Any] | click.Command")


@dataclass
class RunState:
    """State of one run of the program (click's ``obj``)."""

    debug: bool = False


def debugging() -> bool:
    """True if ``--debug`` was given, before or after the command."""
    context = click.get_current_context(silent=True)
    state = context.find_object(RunState) if context else None
    return state is not None and state.debug


def debug_option(target: Decorated) -> Decorated:
    """Add ``--debug`` to a command."""

    def switch_on(context: click.Context, _: click.Parameter, value: bool) -> None:
        if value:
            context.ensure_object(RunState).debug = True

    return click.option(
        "--debug",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=switch_on,
        help="Show the traceback of an error.",
    )(target)


def print_error(error: Exception, debug: bool, notes: Notes | None = None) -> None:
    """Print the sentence for an error, after its traceback if ``debug``."""
    notes = notes or Notes(sys.stderr)
    if debug:
        notes.plain("".join(traceback.format_exception(error)).rstrip("\n"))
    notes.error(_sentence(error, debug))


def exit_code(call: Callable[[], Any], state: RunState) -> int:
    """Run ``call``, print its error if there is one, and return the exit code."""
    try:
        result = call()
    except click.exceptions.Exit as done:
        return done.exit_code
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except click.ClickException as error:
        _print_usage_error(error)
        return error.exit_code
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.EPIPE:
            return 1  # the reader of the output has closed it, and needs no message
        print_error(error, state.debug)
        return error.exit_code if isinstance(error, LocalspecError) else 1
    return result if isinstance(result, int) else 0


def run(call: Callable[[], Any], state: RunState) -> NoReturn:
    """Run ``call`` and exit with its code."""
    prepare_streams()
    code = exit_code(call, state)
    error = flush_output()
    if error is not None and code == 0:
        print_error(error, state.debug)
        code = 1
    sys.exit(code)


def _sentence(error: Exception, debug: bool) -> str:
    if isinstance(error, LocalspecError):
        return str(error)
    if isinstance(error, MemoryError):
        return "there is not enough memory; try a smaller model or a smaller --ctx-size."
    if isinstance(error, OSError) and error.strerror:
        place = f" ({error.filename})" if error.filename else ""
        return f"the system reports: {error.strerror}{place}; check disk space and permissions."
    kind, text = type(error).__name__, " ".join(str(error).split())
    next_step = "Please report it" if debug else "Run the command again with --debug and report its output"
    return f"this is an error in localspec itself ({kind}: {text}). {next_step}."


def _print_usage_error(error: click.ClickException) -> None:
    message = error.format_message()
    message = message[:1].lower() + message[1:]  # click's sentences begin with a capital, ours do not
    notice(f"{_variable(error)}{message}")
    context = getattr(error, "ctx", None)
    if context is not None:
        Notes(sys.stderr).plain(f"Try '{context.command_path} -h' for help.")


def _variable(error: click.ClickException) -> str:
    """The environment variable that a refused value came from, if it did."""
    context, option = getattr(error, "ctx", None), getattr(error, "param", None)
    if context is None or option is None or option.name is None:
        return ""
    from_environment = context.get_parameter_source(option.name) is ParameterSource.ENVIRONMENT
    return f"{option.envvar}: " if from_environment else ""
