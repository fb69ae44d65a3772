"""The slash commands of the chat, a function each."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from localspec.cli.chat.session import Session
from localspec.cli.chat.transcript import Transcript, file_path, pasted_media
from localspec.cli.terminal.answer_stats import engine_line, session_report
from localspec.cli.terminal.units import plural
from localspec.errors import LocalspecError, UsageError
from localspec.files import size_text
from localspec.media.source import Audio, Image, Media

KEYS = [
    ("Enter", "send the message"),
    ("Alt+Enter", "new line (also Esc then Enter, or a \\ at the end of the line)"),
    ("Up, Ctrl-R", "earlier messages, search in them"),
    ("Ctrl-C", "stop an answer, or drop the typed message"),
    ("Ctrl-D", "end the chat"),
]


@dataclass(frozen=True)
class SlashCommand:
    """A command of the chat; ``run`` is called with the session and the text after the name."""

    usage: str
    help: str
    run: Callable[[Session, str], None]


def handle_line(session: Session, text: str) -> None:
    """Run one line, or several pasted ones: a command or a message."""
    text = text.strip()
    name, argument = (*text.split(maxsplit=1), "", "")[:2]
    if _is_command(name):
        session.guard(lambda: _run_command(session, name.lower(), argument))
    elif text:
        escaped = name.startswith("//") and name[1:].lower() in COMMANDS  # //help is the message /help
        session.guard(lambda: _say(session, text[1:] if escaped else text))


def _say(session: Session, text: str) -> None:
    """Answer a message. Paths at its beginning, as a terminal pastes them, are attached if they are media."""
    while (found := pasted_media(text) if session.engine.media else None) is not None:
        media, text = found
        session.attach(media)
    if text:
        session.ask(text)


def _is_command(name: str) -> bool:
    """True for a slash and letters, unless it is the path of a file; a longer path is no command either."""
    if name == "/" or name.lower() in COMMANDS:
        return True
    return re.fullmatch(r"/[A-Za-z]+", name) is not None and not Path(name).exists()


def _run_command(session: Session, name: str, argument: str) -> None:
    """Run ``/name argument``. Raises :class:`UsageError` with a hint for an unknown name."""
    command = COMMANDS.get(name)
    if command is None:
        near = get_close_matches(name, COMMANDS, n=1)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise UsageError(f"there is no command {name}. {hint}/help lists them.")
    command.run(session, argument.strip())


def _help(session: Session, _: str) -> None:
    session.notes.pairs([(c.usage, c.help) for c in COMMANDS.values() if c.help])
    session.notes.plain()
    session.notes.pairs(KEYS)


def _clear(session: Session, _: str) -> None:
    session.transcript.clear()
    system = "; the system message stays" if session.transcript.messages else ""
    session.notes.show(f"The conversation is empty{system}.")


def _trim(session: Session, argument: str) -> None:
    if argument and not (argument.isdecimal() and int(argument) > 0):
        raise UsageError(f"/trim takes a number of turns of at least 1, not {argument!r}.")
    dropped = session.transcript.trim(int(argument) if argument else None)
    session.notes.show(f"Dropped {plural(dropped, 'oldest turn')}." if dropped else "There is no turn to drop.")


def _stats(session: Session, _: str) -> None:
    session.notes.show(*session_report(session.turns, session.total))
    session.notes.show(engine_line(session.engine))


def _switched(name: str, argument: str, now: bool) -> bool:
    """The new value of a switch; without an argument it is toggled."""
    if argument not in ("", "on", "off"):
        raise UsageError(f"/{name} takes on or off, not {argument!r}.")
    return argument == "on" if argument else not now


def _draft(session: Session, argument: str) -> None:
    if not session.engine.drafters:
        raise UsageError("no drafter is loaded; start the chat with -d to have one.")
    session.engine.drafting = _switched("draft", argument, session.engine.drafting)
    session.notes.show("Drafting is on." if session.engine.drafting else "Drafting is off; the drafter stays loaded.")


def _tint(session: Session, argument: str) -> None:
    session.switches.tint = _switched("tint", argument, session.switches.tint)
    if session.switches.tint and not session.colour:
        session.notes.show("This terminal shows no colour, so drafted tokens cannot be tinted.")
    else:
        session.notes.show(f"Drafted tokens are {'tinted' if session.switches.tint else 'not tinted'}.")


def _think(session: Session, argument: str) -> None:
    session.switches.think = _switched("think", argument, session.switches.think)
    session.notes.show(f"Thinking is {'on' if session.switches.think else 'off'} from the next message on.")


def _save(session: Session, argument: str) -> None:
    if not argument:
        raise UsageError("/save needs a file name: /save FILE.")
    about = {
        "model": session.engine.model.name,
        "settings": {**session.answer.keywords(), "thinking": session.switches.think},
    }
    path = session.transcript.save(argument, about)
    session.notes.show(f"Saved {len(session.transcript.messages)} messages to {path}.")
    try:
        size = session.engine.save_state(_state_path(path))
    except LocalspecError as error:
        session.notes.show(f"The cache was not saved: {error}")
    else:
        session.notes.show(f"Saved the cache beside it ({size_text(size)}), so that /load needs no prefill.")


def _load(session: Session, argument: str) -> None:
    if not argument:
        raise UsageError("/load needs a file name: /load FILE.")
    loaded = Transcript.load(argument)
    unanswered = loaded.take_question()
    session.transcript = loaded
    session.notes.show(f"Loaded {len(loaded.messages)} messages from {argument}.")
    state = _state_path(file_path(argument))
    if state.exists():
        try:
            session.engine.load_state(state)
        except LocalspecError as error:
            session.notes.show(f"The cache was not loaded: {error}")
    if unanswered is not None:
        session.notes.show(f"A last message without an answer was left out: {unanswered[0]}")


def _state_path(path: Path) -> Path:
    """The file of a conversation's cache."""
    return path.with_name(f"{path.name}.state")


def _attach(session: Session, argument: str, kind: type[Media]) -> None:
    if not argument:
        name = "image" if kind is Image else "audio"
        raise UsageError(f"/{name} needs a file name: /{name} FILE.")
    session.attach(kind(file_path(argument)))


def _image(session: Session, argument: str) -> None:
    _attach(session, argument, Image)


def _audio(session: Session, argument: str) -> None:
    _attach(session, argument, Audio)


def _result(session: Session, argument: str) -> None:
    session.result(argument)


def _continue(session: Session, _: str) -> None:
    session.go_on()


def _exit(session: Session, _: str) -> None:
    session.ended = True


COMMANDS = {
    "/help": SlashCommand("/help", "this list", _help),
    "/clear": SlashCommand("/clear", "start a new conversation", _clear),
    "/trim": SlashCommand("/trim [N]", "drop the N oldest turns (the older half)", _trim),
    "/stats": SlashCommand("/stats", "tokens, speed and accepted drafts so far", _stats),
    "/draft": SlashCommand("/draft on|off", "switch drafting", _draft),
    "/tint": SlashCommand("/tint on|off", "colour drafted tokens", _tint),
    "/think": SlashCommand("/think on|off", "let the model think first, if it can", _think),
    "/continue": SlashCommand("/continue", "let the model continue its last answer", _continue),
    "/result": SlashCommand("/result TEXT", "give the model the result of its tool call", _result),
    "/image": SlashCommand("/image FILE", "show the model a picture with your next message", _image),
    "/audio": SlashCommand("/audio FILE", "let the model hear a sound with your next message", _audio),
    "/save": SlashCommand("/save FILE", "save the conversation, and its cache in FILE.state", _save),
    "/load": SlashCommand("/load FILE", "go on with a saved conversation", _load),
    "/exit": SlashCommand("/exit", "end the chat (also /quit)", _exit),
    "/quit": SlashCommand("/quit", "", _exit),
}
