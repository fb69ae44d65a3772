"""``localspec chat``: a conversation in the terminal, or a message a line from a pipe."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from localspec.cli.options.answer import AnswerOptions, answer_options
from localspec.cli.options.help import HeadedCommand
from localspec.cli.options.model import ModelOptions, model_options
from localspec.cli.options.prompt import PromptOptions, prompt_options
from localspec.cli.options.values import FileName

if TYPE_CHECKING:
    from localspec.cli.chat.session import Session
    from localspec.cli.chat.transcript import Transcript
    from localspec.media.source import Media

#: Characters of a first message that are repeated on the screen.
_SHOWN = 300


@click.command(cls=HeadedCommand)
@prompt_options
@model_options
@answer_options
@click.option(
    "--tools", type=FileName(), metavar="FILE", help="Functions the model may call: a JSON list as in the OpenAI API."
)
@click.option("--think", is_flag=True, help="Let the model think first, if it can.")
@click.option("--hide-thinking", is_flag=True, help="Do not show the thinking.")
@click.option("--tint", is_flag=True, help="Colour drafted tokens.")
@click.option("--stats", is_flag=True, help="Print a line about each answer, also when piped.")
@click.option(
    "--when-full",
    type=click.Choice(("stop", "trim")),
    default="stop",
    show_default=True,
    help="If a message does not fit the context: refuse it, or drop the oldest turns.",
)
def chat(
    models: ModelOptions,
    source: PromptOptions,
    answer: AnswerOptions,
    tools: str | None,
    think: bool,
    hide_thinking: bool,
    tint: bool,
    stats: bool,
    when_full: str,
) -> None:
    """Chat with a model. -p, -f or --messages start the conversation; /help in the chat lists its commands.

    Without a terminal each line of standard input is a message, and only the answers are printed.

    Without -m the model used last is loaded, or a menu is shown the first time; without a terminal it is tiny.
    """
    from localspec.cli.chat.session import Session, Switches
    from localspec.cli.input.messages import read_tools
    from localspec.cli.model.choose import chosen
    from localspec.cli.model.load import load_engine
    from localspec.cli.terminal.notes import Notes

    transcript, question, media = _start(source)
    offered = [] if tools is None else read_tools(tools)
    interactive = sys.stdin.isatty() and (sys.stdout.isatty() or sys.stderr.isatty())
    with load_engine(chosen(models, interactive and sys.stderr.isatty())) as engine:
        session = Session(
            engine,
            transcript,
            answer,
            Switches(think, hide_thinking, tint, when_full == "trim"),
            Notes(sys.stderr),
            interactive,
            stats,
            offered,
        )
        for one in media:
            session.attach(one)
        if interactive:
            _talk(session, question)
        else:
            _pipe(session, question)


def _start(source: PromptOptions) -> tuple[Transcript, str | None, list[Media]]:
    """The transcript to begin with, a question to answer first, and the media of the first message."""
    from localspec.cli.chat.transcript import Transcript
    from localspec.cli.input.messages import read_messages, require_question
    from localspec.cli.input.text import source_name

    source.require_one()
    if source.messages is not None:
        transcript = Transcript(read_messages(source.messages))
        if source.continued:
            require_question(transcript.messages, source_name(source.messages), continued=True)
            return transcript, "/continue", []
        question, media = transcript.take_question() or (None, [])
        return transcript, question, media
    return Transcript(source.system_messages()), source.text(), source.media()


def _pipe(session: Session, question: str | None) -> None:
    """Answer line by line, to the end of input."""
    from localspec.cli.chat.slash_commands import handle_line
    from localspec.cli.input.text import decoded_lines, standard_input

    if question is not None:
        handle_line(session, question)
    for text in decoded_lines(iter(standard_input()), "standard input"):
        if session.ended:
            break
        handle_line(session, text)
    if session.failed:
        raise click.exceptions.Exit(1)


def _talk(session: Session, question: str | None) -> None:
    """Answer the messages typed at the terminal, until Ctrl-D or ``/exit``."""
    from localspec.cli.chat.input_line import PROMPT, InputLine
    from localspec.cli.chat.slash_commands import handle_line

    _greet(session)
    session.engine.measure(0.0)  # begins, and goes on while the person types
    line = InputLine()
    pending = question
    while not session.ended:
        try:
            if pending is not None:
                session.notes.show(PROMPT + (pending if len(pending) <= _SHOWN else f"{pending[:_SHOWN]}..."))
                text, pending = pending, None
            else:
                text = line.read()
            handle_line(session, text)
            session.notes.plain()
        except KeyboardInterrupt:
            session.notes.show("Ctrl-D or /exit ends the chat.")
        except EOFError:
            return


def _greet(session: Session) -> None:
    from localspec.cli.terminal.answer_stats import engine_line

    session.notes.show(
        f"{engine_line(session.engine)}, context {session.engine.n_ctx} tokens.",
        "Ctrl-C stops an answer, Ctrl-D ends the chat, /help lists the rest.",
        *(["It reads pictures: /image FILE, or drop one here."] if "picture" in session.engine.media else []),
        *(["It hears sounds: /audio FILE, or drop one here."] if "sound" in session.engine.media else []),
    )
    session.notes.plain()
