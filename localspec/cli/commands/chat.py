"""``localspec chat``: a conversation in the terminal, or a line a message from a pipe."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from localspec.cli.options.help import HeadedCommand
from localspec.cli.options.shared import (
    AnswerOptions,
    ModelOptions,
    PromptOptions,
    answer_options,
    model_options,
    prompt_options,
)

if TYPE_CHECKING:
    from localspec.cli.chat.session import Session
    from localspec.cli.chat.transcript import Conversation


_SHOWN = 300  # characters of a first message that are repeated on the screen


@click.command(cls=HeadedCommand, short_help="Talk with a model in the terminal.")
@prompt_options
@model_options
@answer_options
@click.option("--tools", metavar="FILE", help="Functions that the model may call: a JSON list, as in the OpenAI API.")
@click.option("--think", is_flag=True, help="Let the model think first, if it can.")
@click.option("--hide-thinking", is_flag=True, help="Do not show what it thinks.")
@click.option("--tint", is_flag=True, help="Colour the tokens that were drafted.")
@click.option("--stats", is_flag=True, help="A line about each answer, also when piped.")
def chat(
    models: ModelOptions,
    source: PromptOptions,
    answer: AnswerOptions,
    tools: str | None,
    think: bool,
    hide_thinking: bool,
    tint: bool,
    stats: bool,
) -> None:
    """Talk with a model. -p, -f or --messages start the conversation; /help in the chat lists what else there is.

    Without a terminal each line of standard input is a message, and only the answers are printed.

    Without -m it is the model that was used last, or what you choose the first time; outside a terminal it is tiny.
    """
    from localspec.cli.chat.session import Session, Switches
    from localspec.cli.engine import open_engine
    from localspec.cli.first_run import chosen
    from localspec.cli.options.tools import read_tools
    from localspec.cli.terminal.notes import Notes

    conversation, question = _start(source)
    offered = [] if tools is None else read_tools(tools)
    interactive = sys.stdin.isatty() and (sys.stdout.isatty() or sys.stderr.isatty())
    with open_engine(chosen(models, interactive and sys.stderr.isatty())) as engine:
        session = Session(
            engine,
            conversation,
            answer,
            Switches(think, hide_thinking, tint),
            Notes(sys.stderr),
            interactive,
            stats,
            offered,
        )
        if interactive:
            _talk(session, question)
        else:
            _pipe(session, question)


def _start(source: PromptOptions) -> tuple[Conversation, str | None]:
    """The conversation to begin with, and a question to answer first."""
    from localspec.cli.chat.transcript import Conversation
    from localspec.cli.messages import argument, read_messages, read_text

    given = {"-p": source.prompt, "-f": source.file, "--messages": source.messages}
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        raise click.UsageError(f"{' and '.join(names)} both start the conversation; keep one.")
    if source.messages is not None:
        if source.system is not None:
            raise click.UsageError("--messages is the whole conversation; leave out --system.")
        conversation = Conversation(read_messages(source.messages))
        return conversation, conversation.pending()
    conversation = Conversation.start(source.system and argument(source.system, "--system"))
    if source.prompt is not None:
        return conversation, argument(source.prompt, "the prompt of -p")
    return conversation, None if source.file is None else read_text(source.file)


def _pipe(session: Session, question: str | None) -> None:
    """Answer line by line, to the end of input."""
    from localspec.cli.chat.slash_commands import handle_line
    from localspec.cli.messages import lines, standard_input

    if question is not None:
        handle_line(session, question)
    for text in lines(iter(standard_input()), "standard input"):
        if session.ended:
            break
        handle_line(session, text)
    if session.failed:
        raise click.exceptions.Exit(1)


def _talk(session: Session, question: str | None) -> None:
    """Answer a person, who alone ends the chat."""
    from localspec.cli.chat.prompt import PROMPT, Prompt
    from localspec.cli.chat.slash_commands import handle_line

    _greet(session)
    prompt = Prompt()
    pending = question
    while not session.ended:
        try:
            if pending is not None:
                session.notes.say(PROMPT + (pending if len(pending) <= _SHOWN else f"{pending[:_SHOWN]}..."))
                text, pending = pending, None
            else:
                text = prompt.read()
            handle_line(session, text)
            session.notes.blank()
        except KeyboardInterrupt:
            session.notes.say("Ctrl-D or /exit ends the chat.")
        except EOFError:
            return


def _greet(session: Session) -> None:
    from localspec.cli.report import set_up

    session.notes.say(
        f"{set_up(session.engine)}, context {session.engine.n_ctx} tokens.",
        "Ctrl-C stops an answer, Ctrl-D ends the chat, /help lists the rest.",
    )
    session.notes.blank()
