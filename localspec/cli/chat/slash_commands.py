"""The slash commands of the chat, a function each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from localspec.cli.chat.session import Session
from localspec.cli.chat.transcript import Conversation, file_path
from localspec.cli.report import session_report, set_up
from localspec.errors import LocalspecError, UsageError
from localspec.files import size_text

KEYS = [
    ("Enter", "send the message"),
    ("Alt+Enter", "new line (also Esc then Enter, or a \\ at the end of the line)"),
    ("Up, Ctrl-R", "earlier messages, search in them"),
    ("Ctrl-C", "stop an answer, or drop what is typed"),
    ("Ctrl-D", "end the chat"),
]


@dataclass(frozen=True)
class Command:
    usage: str
    help: str
    run: Callable[[Session, str], None]


def is_command(text: str) -> bool:
    return text.startswith("/")


def handle_line(session: Session, text: str) -> None:
    """Run one line, or pasted lines: a command or a message."""
    text = text.strip()
    if is_command(text):
        session.guard(lambda: run_command(session, text))
    elif text:
        session.guard(lambda: session.ask(text))


def run_command(session: Session, text: str) -> None:
    """Run ``/name argument``; an unknown name gives a hint."""
    name, _, argument = text.partition(" ")
    command = COMMANDS.get(name.lower())
    if command is None:
        near = get_close_matches(name.lower(), COMMANDS, n=1)
        hint = f"Did you mean {near[0]}? " if near else ""
        session.notes.error(f"there is no command {name.splitlines()[0]}. {hint}/help lists them.")
        return
    command.run(session, argument.strip())


def _help(session: Session, _: str) -> None:
    session.notes.pairs([(c.usage, c.help) for c in COMMANDS.values() if c.help])
    session.notes.blank()
    session.notes.pairs(KEYS)


def _clear(session: Session, _: str) -> None:
    session.conversation.clear()
    system = "; the system message stays" if session.conversation.messages else ""
    session.notes.say(f"The conversation is empty{system}.")


def _stats(session: Session, _: str) -> None:
    session.notes.say(*session_report(session.turns, session.total))
    session.notes.say(set_up(session.engine))


def _switched(name: str, argument: str, now: bool) -> bool:
    """The new value of a switch; without an argument it is turned over."""
    if argument not in ("", "on", "off"):
        raise UsageError(f"/{name} takes on or off, not {argument!r}.")
    return argument == "on" if argument else not now


def _draft(session: Session, argument: str) -> None:
    if not session.engine.drafters:
        raise UsageError("no drafter is loaded; start the chat with -d to have one.")
    session.engine.drafting = _switched("draft", argument, session.engine.drafting)
    session.notes.say("Drafting is on." if session.engine.drafting else "Drafting is off; the drafter stays loaded.")


def _tint(session: Session, argument: str) -> None:
    session.switches.tint = _switched("tint", argument, session.switches.tint)
    if session.switches.tint and not session.colour:
        session.notes.say("This terminal shows no colour, so nothing will be tinted.")
    else:
        session.notes.say(f"Drafted tokens are {'tinted' if session.switches.tint else 'not tinted'}.")


def _think(session: Session, argument: str) -> None:
    session.switches.think = _switched("think", argument, session.switches.think)
    session.notes.say(f"Thinking is {'on' if session.switches.think else 'off'} from the next message on.")


def _save(session: Session, argument: str) -> None:
    if not argument:
        raise UsageError("/save needs a file name: /save FILE.")
    about = {
        "model": session.engine.model.name,
        "settings": {**session.answer.engine(), "thinking": session.switches.think},
    }
    path = session.conversation.save(argument, about)
    session.notes.say(f"Saved {len(session.conversation.messages)} messages to {path}.")
    try:
        size = session.engine.save_state(_state_of(path))
    except LocalspecError as error:
        session.notes.say(f"The cache was left out: {error}")
    else:
        session.notes.say(f"The cache is beside it ({size_text(size)}), so that /load need not read it all again.")


def _state_of(path: Path) -> Path:
    """Where the cache of a conversation is kept."""
    return path.with_name(f"{path.name}.state")


def _load(session: Session, argument: str) -> None:
    if not argument:
        raise UsageError("/load needs a file name: /load FILE.")
    loaded = Conversation.load(argument)
    unanswered = loaded.pending()
    session.conversation = loaded
    session.notes.say(f"Loaded {len(loaded.messages)} messages from {argument}.")
    state = _state_of(file_path(argument))
    if state.exists():
        try:
            session.engine.load_state(state)
        except LocalspecError as error:
            session.notes.say(f"The cache beside it was left out: {error}")
    if unanswered is not None:
        session.notes.say(f"A last message without an answer was left out: {unanswered}")


def _result(session: Session, argument: str) -> None:
    session.result(argument)


def _exit(session: Session, _: str) -> None:
    session.ended = True


COMMANDS = {
    "/help": Command("/help", "this list", _help),
    "/clear": Command("/clear", "forget the conversation", _clear),
    "/stats": Command("/stats", "tokens, speed and accepted drafts so far", _stats),
    "/draft": Command("/draft on|off", "draft or decode plainly", _draft),
    "/tint": Command("/tint on|off", "colour the tokens that were drafted", _tint),
    "/think": Command("/think on|off", "let the model think first, if it can", _think),
    "/result": Command("/result TEXT", "tell the model what came of its tool call", _result),
    "/save": Command("/save FILE", "keep the conversation in a file, its cache in FILE.state", _save),
    "/load": Command("/load FILE", "go on with a kept conversation", _load),
    "/exit": Command("/exit", "end the chat (also /quit)", _exit),
    "/quit": Command("/quit", "", _exit),
}
