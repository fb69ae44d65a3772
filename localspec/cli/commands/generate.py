"""``localspec generate``: answer one prompt or a file of prompts, as text or JSON on standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from localspec.cli.errors import INTERRUPTED
from localspec.cli.options.answer import AnswerOptions, answer_options
from localspec.cli.options.help import HeadedCommand
from localspec.cli.options.model import ModelOptions, model_options
from localspec.cli.options.prompt import PromptOptions, prompt_options
from localspec.cli.options.values import FileName
from localspec.cli.terminal.notes import Notes, notice
from localspec.errors import BackendError, InputError, PromptTooLongError, TemplateError

if TYPE_CHECKING:
    from localspec.cli.input.jsonl import JsonlPrompt
    from localspec.cli.input.messages import MessageDict
    from localspec.cli.terminal.answer import AnswerPrinter
    from localspec.engine import Engine
    from localspec.generation.result import Chunk, Completion

#: Share of an answer's time that a pair which is new on this machine is measured after it.
_GAP_SHARE = 0.2
#: Share of it before the program ends, and the least seconds. Each program opens the contexts of the measurement and
#: prefills them again, so shorter times measure nothing.
_LAST_GAP_SHARE, _LAST_GAP_S = 0.5, 2.0


@click.command(cls=HeadedCommand)
@prompt_options
@click.option("--raw", is_flag=True, help="Send the prompt without the chat template.")
@click.option(
    "--jsonl",
    type=FileName(),
    metavar="FILE",
    help='Answer each line {"id", "messages"} of FILE with a line of JSON; a line may have a "response_format".',
)
@model_options
@answer_options
@click.option(
    "--tools", type=FileName(), metavar="FILE", help="Functions the model may call: a JSON list as in the OpenAI API."
)
@click.option(
    "--tool-choice",
    metavar="CHOICE",
    help="With --tools: auto, none, required (one must be called), or the name of the one to call.",
)
@click.option(
    "--logprobs", type=int, metavar="N", help="With --json: log probabilities of each token and of the N likeliest."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
@click.option("--stats", is_flag=True, help="Print a short summary on standard error.")
def generate(
    models: ModelOptions,
    source: PromptOptions,
    answer: AnswerOptions,
    raw: bool,
    jsonl: str | None,
    tools: str | None,
    tool_choice: str | None,
    logprobs: int | None,
    as_json: bool,
    stats: bool,
) -> None:
    """Answer a prompt: -p TEXT, -f FILE, --messages FILE, or standard input.

    The prompt is a user message in the model's chat template, unless --raw is given. One line end at the end of a
    file or of standard input is left out.

    Without -m a terminal loads the model used last, or shows a menu the first time; scripts and pipes load tiny.
    """
    from localspec.cli.model.choose import chosen
    from localspec.cli.model.load import load_engine

    keywords = {**answer.keywords(), **_more_keywords(tools, tool_choice, logprobs, raw, as_json or jsonl is not None)}
    if source.continued:
        _require_free_text(bool(answer.format))
        keywords["continue_final"] = True
    if jsonl is not None:
        prompts = _read_jsonl(jsonl, source, raw, answer)
        with load_engine(chosen(models, at_terminal=False)) as engine:
            _answer_all(engine, prompts, keywords, stats)
        return
    prompt = source.to_answer(raw)
    with load_engine(chosen(models, _at_terminal() and not as_json)) as engine:
        done = _answer(engine, prompt, keywords, None if as_json else _printer(raw))
        if as_json:
            _print_json(engine, done)
        _print_notes(done, stats, as_json)
        with suppress(KeyboardInterrupt):  # the answer is complete
            _measure(engine, max(_LAST_GAP_S, _LAST_GAP_SHARE * _seconds(done)))


def _at_terminal() -> bool:
    """True if all streams are a terminal: a script run in one mostly redirects the answer."""
    return all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))


def _more_keywords(
    tools: str | None, choice: str | None, logprobs: int | None, raw: bool, as_json: bool
) -> dict[str, Any]:
    """The engine's keyword arguments for ``--tools``, ``--tool-choice`` and ``--logprobs``, where they are given."""
    from localspec.cli.input.messages import read_tools
    from localspec.generation.logprobs import check_logprobs

    found: dict[str, Any] = {}
    if tools is not None:
        if raw:
            raise click.UsageError("--tools needs the chat template; leave out --raw.")
        found["tools"] = read_tools(tools)
    if choice is not None:
        if tools is None:
            raise click.UsageError("--tool-choice needs --tools.")
        words = ("auto", "none", "required")
        found["tool_choice"] = choice if choice in words else {"type": "function", "function": {"name": choice}}
    if logprobs is not None:
        if not as_json:
            raise click.UsageError("--logprobs needs JSON output; add --json, or use --jsonl.")
        found["logprobs"] = check_logprobs(logprobs)
    return found


def _require_free_text(structured: bool) -> None:
    """Raise UsageError for a structured answer, whose beginning cannot lie in the prompt."""
    if structured:
        raise click.UsageError("a structured answer cannot continue a message; leave out --continue or the format.")


def _read_jsonl(path: str, source: PromptOptions, raw: bool, answer: AnswerOptions) -> list[JsonlPrompt]:
    """The prompts of ``--jsonl``. Raises UsageError for options that do not go with it."""
    from localspec.cli.input.jsonl import read_jsonl

    flags = {
        "--raw": raw,
        "--system": source.system is not None,
        "--image": bool(source.images),
        "--audio": bool(source.audios),
    }
    others = source.given() + [flag for flag, given in flags.items() if given]
    if others:
        raise click.UsageError(f"--jsonl gives the prompts; leave out {' and '.join(others)}.")
    prompts = read_jsonl(path, continued=source.continued)
    if source.continued:
        _require_free_text(any(prompt.answer_format for prompt in prompts))
    if answer.stop and any(prompt.answer_format for prompt in prompts):
        raise click.UsageError("--stop would cut a structured answer before its end; leave it out.")
    return prompts


def _answer(
    engine: Engine, prompt: str | list[MessageDict], keywords: dict[str, Any], printer: AnswerPrinter | None = None
) -> Completion:
    """The answer, printed as it comes if there is a printer. Ctrl-C exits and keeps the printed part."""
    from localspec.cli.terminal.follow import PartialAnswer, follow

    answer = PartialAnswer()
    verb: Callable[..., Iterator[Chunk]] = engine.stream if isinstance(prompt, str) else engine.stream_chat
    try:
        follow(partial(verb, prompt, **keywords), answer, printer)
    finally:
        if printer:
            printer.end()
    if answer.completion is None:
        raise click.exceptions.Exit(INTERRUPTED)
    return answer.completion


def _printer(raw: bool) -> AnswerPrinter:
    from localspec.cli.terminal.answer import AnswerPrinter, WrappedWriter
    from localspec.cli.terminal.style import Style

    wrap = sys.stdout.isatty() and not raw
    return AnswerPrinter(WrappedWriter(sys.stdout, Style.from_stream(sys.stdout), wrap), tint=False, show_thought=False)


def _print_json(engine: Engine, done: Completion, **first: Any) -> None:
    from localspec.cli.terminal.answer_json import answer_json

    click.echo(answer_json(engine, done, **first))


def _print_notes(done: Completion, stats: bool, as_json: bool) -> None:
    """Print the notice, the tool calls (which are in the JSON as well) and the summary on standard error."""
    from localspec.cli.terminal.answer_stats import answer_report, call_line

    if done.notice:
        notice(done.notice)
    lines = [] if as_json else [call_line(call) for call in done.tool_calls]
    for line in [*lines, *(answer_report(done) if stats else [])]:
        Notes(sys.stderr).plain(line)


def _measure(engine: Engine, seconds: float) -> None:
    """Measure a pair that is new on this machine for so many seconds; what is missing is measured next time."""
    with suppress(BackendError):  # without enough memory answers stay plain
        engine.measure(seconds, whole=False)


def _seconds(done: Completion) -> float:
    """How long an answer took."""
    return done.stats.prompt_s + done.stats.generate_s


def _answer_all(engine: Engine, prompts: list[JsonlPrompt], keywords: dict[str, Any], stats: bool) -> None:
    """Answer in order. A prompt that this model cannot take gets an error in its place, and the rest go on."""
    from localspec.cli.options.format import with_format

    failed = 0
    for prompt in prompts:
        try:
            done = _answer(engine, prompt.messages, with_format(keywords, prompt.answer_format))
        except (PromptTooLongError, TemplateError, InputError) as error:
            failed += 1
            notice(f"{prompt.id}: {error}")
            click.echo(json.dumps({"id": prompt.id, "error": str(error)}))
            continue
        _print_json(engine, done, id=prompt.id)
        _print_notes(done, stats, as_json=True)
        _measure(engine, _GAP_SHARE * _seconds(done))
    if failed:
        notice(f"{failed} of {len(prompts)} prompts failed.")
        raise click.exceptions.Exit(1)
