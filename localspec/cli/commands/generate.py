"""``localspec generate``: one prompt or a file of prompts, to text or JSON on standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from localspec.cli.engine import open_engine
from localspec.cli.errors import INTERRUPTED, tell
from localspec.cli.first_run import chosen
from localspec.cli.jobs import Job, read_jobs
from localspec.cli.messages import (
    Message,
    argument,
    label,
    read_messages,
    read_text,
    require_question,
)
from localspec.cli.options.format import with_format
from localspec.cli.options.help import HeadedCommand
from localspec.cli.options.shared import (
    AnswerOptions,
    ModelOptions,
    PromptOptions,
    answer_options,
    model_options,
    prompt_options,
)
from localspec.errors import InputError, PromptTooLongError, TemplateError

if TYPE_CHECKING:
    from localspec.cli.terminal.answer import AnswerPrinter
    from localspec.engine import Engine
    from localspec.generation.result import Chunk, Completion


@click.command(cls=HeadedCommand, short_help="Answer one prompt, or a file of them.")
@prompt_options
@click.option("--raw", is_flag=True, help="Send the prompt without the chat template.")
@click.option(
    "--jsonl",
    metavar="FILE",
    help='Answer a file with a line {"id", "messages"} for each prompt ("response_format", too, where an answer is to '
    "have one); a JSON line for each answer.",
)
@model_options
@answer_options
@click.option("--tools", metavar="FILE", help="Functions that the model may call: a JSON list, as in the OpenAI API.")
@click.option(
    "--logprobs", type=int, metavar="N", help="With --json: log probabilities of each token and the N likeliest."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object in place of text.")
@click.option("--stats", is_flag=True, help="A short summary on standard error.")
def generate(
    models: ModelOptions,
    source: PromptOptions,
    answer: AnswerOptions,
    raw: bool,
    jsonl: str | None,
    tools: str | None,
    logprobs: int | None,
    as_json: bool,
    stats: bool,
) -> None:
    """Answer a prompt: -p TEXT, -f FILE, --messages FILE, or standard input.

    The prompt is a user message to the model's chat template, unless --raw is given. One line end at the end of a
    file or of standard input is left out.

    Without -m a terminal gets the model that was used last, or a choice the first time; scripts and pipes get tiny.
    """
    options = {**answer.engine(), **_more(tools, logprobs, raw, as_json or jsonl is not None)}
    if jsonl is not None:
        _refuse(source, {"--raw": raw, "--system": source.system is not None})
        jobs = read_jobs(jsonl)
        if answer.stop and any(job.format for job in jobs):
            raise click.UsageError("--stop would cut a structured answer before its end; leave it out.")
        with open_engine(chosen(models, at_terminal=False)) as engine:
            _answer_all(engine, jobs, options, stats)
        return
    prompt = _prompt(source, raw)
    with open_engine(chosen(models, _at_terminal() and not as_json)) as engine:
        done = _answer(engine, prompt, options, None if as_json else _printer(raw))
        if as_json:
            _print_json(engine, done)
    _tell_about(done, stats, as_json)


def _at_terminal() -> bool:
    """Whether a person is there: a script in a terminal mostly takes the answer itself."""
    return all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))


def _more(tools: str | None, logprobs: int | None, raw: bool, as_json: bool) -> dict[str, Any]:
    """The engine's keyword arguments for ``--tools`` and ``--logprobs``, where they were given."""
    from localspec.cli.options.tools import read_tools
    from localspec.generation.logprobs import check_logprobs

    found: dict[str, Any] = {}
    if tools is not None:
        if raw:
            raise click.UsageError("--tools needs the chat template; leave out --raw.")
        found["tools"] = read_tools(tools)
    if logprobs is not None:
        if not as_json:
            raise click.UsageError("--logprobs goes into JSON; add --json, or use --jsonl.")
        found["logprobs"] = check_logprobs(logprobs)
    return found


def _given(source: PromptOptions) -> list[str]:
    flags = {"-p": source.prompt, "-f": source.file, "--messages": source.messages}
    return [flag for flag, value in flags.items() if value is not None]


def _refuse(source: PromptOptions, with_jsonl: dict[str, bool]) -> None:
    others = _given(source) + [flag for flag, given in with_jsonl.items() if given]
    if others:
        raise click.UsageError(f"--jsonl brings its own prompts; leave out {' and '.join(others)}.")


def _prompt(source: PromptOptions, raw: bool) -> str | list[Message]:
    """The text (``--raw``) or the messages to answer; exactly one source, and something in it."""
    given = _given(source)
    if len(given) > 1:
        raise click.UsageError(f"{' and '.join(given)} both give a prompt; keep one.")
    if raw and source.system is not None:
        raise click.UsageError("--system needs the chat template; leave out --raw.")
    if source.messages is not None:
        if raw or source.system is not None:
            extra = "--raw" if raw else "--system"
            raise click.UsageError(f"--messages is the whole conversation; leave out {extra}.")
        return require_question(read_messages(source.messages), label(source.messages))
    text = _text(source)
    if not (text if raw else text.strip()):
        raise click.UsageError("the prompt is empty; give some text with -p, -f or standard input.")
    if raw:
        return text
    system = [] if source.system is None else [{"role": "system", "content": argument(source.system, "--system")}]
    return [*system, {"role": "user", "content": text}]


def _text(source: PromptOptions) -> str:
    if source.prompt is not None:
        return argument(source.prompt, "the prompt of -p")
    if source.file is None and sys.stdin.isatty():
        raise click.UsageError("there is no prompt; give one with -p TEXT, -f FILE, or on standard input.")
    return read_text("-" if source.file is None else source.file)


def _answer(
    engine: Engine, prompt: str | list[Message], options: dict[str, Any], printer: AnswerPrinter | None = None
) -> Completion:
    """The answer, printed as it comes if there is a printer. Ctrl-C exits with what was printed."""
    from localspec.cli.chat.turn import Turn, follow

    turn = Turn()
    verb: Callable[..., Iterator[Chunk]] = engine.stream if isinstance(prompt, str) else engine.stream_chat
    try:
        follow(partial(verb, prompt, **options), turn, printer)
    finally:
        if printer:
            printer.end()
    if turn.completion is None:
        raise click.exceptions.Exit(INTERRUPTED)
    return turn.completion


def _printer(raw: bool) -> AnswerPrinter:
    from localspec.cli.terminal.answer import AnswerPrinter, WrappedWriter
    from localspec.cli.terminal.style import Style

    wrap = sys.stdout.isatty() and not raw
    return AnswerPrinter(WrappedWriter(sys.stdout, Style.of(sys.stdout), wrap), tint=False, show_thought=False)


def _fields(done: Completion) -> dict[str, Any]:
    return {
        "text": done.text,
        "tokens": list(done.tokens),
        "finish_reason": done.finish_reason,
        "seed": done.seed,
        "exactness": done.exactness,
        "timings": done.stats.timings(),
        "draft": done.stats.draft(),
    }


def _print_json(engine: Engine, done: Completion, **first: Any) -> None:
    from localspec.cli.options.tools import more_fields

    ascii_only = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    click.echo(json.dumps({**first, **_fields(done), **more_fields(engine, done)}, ensure_ascii=ascii_only))


def _tell_about(done: Completion, stats: bool, as_json: bool) -> None:
    from localspec.cli.options.tools import shown_call
    from localspec.cli.report import answer_report

    if done.notice:
        tell(done.notice)
    if not as_json:
        for call in done.tool_calls:
            click.echo(shown_call(call), err=True)
    if stats:
        for line in answer_report(done):
            click.echo(line, err=True)


def _answer_all(engine: Engine, jobs: list[Job], options: dict[str, Any], stats: bool) -> None:
    """Answer in order; a prompt that this model cannot take is told of in its place, and the rest go on."""
    failed = 0
    for job in jobs:
        try:
            done = _answer(engine, job.messages, with_format(options, job.format))
        except (PromptTooLongError, TemplateError, InputError) as error:
            failed += 1
            tell(f"{job.id}: {error}")
            click.echo(json.dumps({"id": job.id, "error": str(error)}))
            continue
        _print_json(engine, done, id=job.id)
        _tell_about(done, stats, as_json=True)
    if failed:
        tell(f"{failed} of {len(jobs)} prompts failed.")
        raise click.exceptions.Exit(1)
