"""Laws of ``localspec chat``: piped, its commands, and what an interrupt or an error leaves behind."""

from __future__ import annotations

import io
import json
import signal

import pytest

from localspec.cli.chat.session import Session, Switches
from localspec.cli.chat.slash_commands import handle_line
from localspec.cli.chat.transcript import Transcript
from localspec.cli.options.answer import AnswerOptions
from localspec.cli.terminal.notes import Notes
from localspec.errors import BackendError, InputError, PromptTooLongError

ANSWER = AnswerOptions(temperature=0.8, top_k=40, top_p=0.95, min_p=0.05, seed=None, stop=(), max_tokens=None)


def _user(text):
    return {"role": "user", "content": text}


def _model(text):
    return {"role": "assistant", "content": text}


@pytest.fixture
def session(program):
    """A chat with a person, whose notes can be read."""
    notes = io.StringIO()
    made = Session(program.engine, Transcript(), ANSWER, Switches(), Notes(notes), interactive=True)
    made.told = notes.getvalue
    return made


# piped


def test_each_line_is_a_message_and_only_answers_are_printed(program, reply):
    program.reply(reply("First."), reply("Second."))
    result = program("chat", input="one\n\ntwo\n")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "First.\nSecond.\n", "")
    assert program.engine.asked == [[_user("one")], [_user("one"), _model("First."), _user("two")]]


def test_the_end_of_input_without_a_message_is_no_error(program):
    result = program("chat", input="")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


def test_stats_when_piped_are_on_request(program):
    result = program("chat", "--stats", input="one\n")
    assert (result.stdout, result.stderr) == (
        "Hello there.\n",
        "2 tokens, 2.0 accepted/step, 67% accepted, 4 tok/s\n",
    )


@pytest.mark.parametrize(("flag", "start"), [("-p", "Hi"), ("-f", "p.txt")])
def test_a_prompt_starts_the_conversation(program, tmp_path, flag, start):
    (tmp_path / "p.txt").write_text("Hi\n")
    program("chat", flag, start, "--system", "Be brief.", input="more\n")
    system = {"role": "system", "content": "Be brief."}
    assert program.engine.asked[0] == [system, _user("Hi")]
    assert program.engine.asked[1] == [system, _user("Hi"), _model("Hello there."), _user("more")]


def test_messages_go_on_where_they_ended(program, tmp_path):
    (tmp_path / "m.json").write_text(json.dumps([_user("a"), _model("b"), _user("c")]))
    result = program("chat", "--messages", "m.json", input="")
    assert result.stdout == "Hello there.\n"
    assert program.engine.asked == [[_user("a"), _model("b"), _user("c")]]


def test_a_failed_turn_does_not_end_the_pipe_but_the_exit_code_tells(program, reply):
    program.reply(reply(""), reply())
    program.engine.replies[0].error = PromptTooLongError("The prompt has 9 tokens, the context 8.")
    result = program("chat", input="long\nshort\n")
    assert (result.exit_code, result.stdout) == (1, "Hello there.\n")
    assert result.stderr.startswith("localspec: The prompt has 9 tokens, the context 8.")
    assert program.engine.asked[1] == [_user("short")]


def test_an_interrupt_ends_a_pipe_with_130(program, reply):
    program.reply(reply(before_word=lambda number: number == 1 and signal.raise_signal(signal.SIGINT)))
    result = program("chat", input="one\ntwo\n")
    assert (result.exit_code, result.stdout) == (130, "Hello there.\n")
    assert len(program.engine.asked) == 1


def test_bytes_that_are_no_utf8_are_told_with_their_offset(program):
    result = program("chat", input=b"one\ncaf\xe9\n")
    assert (result.exit_code, result.stdout) == (1, "Hello there.\n")
    assert result.stderr == "localspec: standard input is not valid UTF-8 at byte 7 (0xe9); convert it to UTF-8.\n"


def test_commands_work_in_a_pipe_too(program):
    result = program("chat", input="/nonsense\n/exit\nnever sent\n")
    assert (result.exit_code, result.stdout, program.engine.asked) == (1, "", [])
    assert "there is no command /nonsense" in result.stderr


@pytest.mark.parametrize("args", [["-p", "a", "-f", "b"], ["--messages", "m", "--system", "x"], ["-n", "0"]])
def test_wrong_usage_is_told_before_a_model_is_opened(program, args):
    result = program("chat", *args, input="")
    assert (result.exit_code, program.loads) == (2, [])


# turns


def test_an_interrupt_keeps_the_part_that_was_said(session, reply, capsys):
    session.engine.replies = [reply("One two three", before_word=lambda n: n == 1 and signal.raise_signal(2)), reply()]
    handle_line(session, "count")
    assert session.transcript.messages == [_user("count"), _model("One two")]
    assert "Stopped after 2 tokens" in session.told()
    handle_line(session, "go on")
    assert session.transcript.messages[2:] == [_user("go on"), _model("Hello there.")]
    assert capsys.readouterr().out == "One two\nHello there.\n"


def test_an_interrupt_before_the_answer_takes_the_question_back(session, reply):
    session.transcript = Transcript([_user("a"), _model("b")])
    session.engine.replies = [reply("", error=KeyboardInterrupt())]
    handle_line(session, "c")
    assert session.transcript.messages == [_user("a"), _model("b")]
    assert "taken back" in session.told()


def test_an_interrupt_while_reading_a_long_prompt_stops_it(session):
    def stream(messages, *, progress, **_):
        progress(1, 3)
        signal.raise_signal(signal.SIGINT)
        progress(2, 3)
        raise AssertionError("the prompt was read to its end")
        yield

    session.engine.stream_chat = stream
    handle_line(session, "long")
    assert session.transcript.messages == []


def test_ctrl_c_works_as_before_after_a_turn(session):
    before = signal.getsignal(signal.SIGINT)
    handle_line(session, "hi")
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("error", [PromptTooLongError("Too long."), BackendError("It broke."), RuntimeError("a bug")])
def test_an_error_before_the_answer_takes_the_question_back(session, reply, error):
    handle_line(session, "a")
    session.engine.replies = [reply("", error=error)]
    handle_line(session, "b")
    assert session.transcript.messages == [_user("a"), _model("Hello there.")]
    assert str(error) in session.told()
    handle_line(session, "c")
    assert len(session.transcript.messages) == 4


def test_an_error_on_the_way_keeps_the_part_that_was_said(session, reply):
    session.engine.replies = [reply("One two", error=BackendError("It broke."))]
    handle_line(session, "a")
    assert session.transcript.messages == [_user("a"), _model("One two")]


def test_a_full_context_is_told_and_the_conversation_stays(session, reply):
    session.engine.replies = [reply("Half an", notice="The context is full.", finish_reason="length")]
    handle_line(session, "a")
    assert session.transcript.messages == [_user("a"), _model("Half an")]
    assert "The context is full." in session.told()


def test_thoughts_stay_out_of_the_conversation(session, reply):
    session.switches.think = True
    session.engine.replies = [reply("Yes.", thought="hmm")]
    handle_line(session, "a")
    assert session.engine.options[0]["thinking"] is True
    assert session.transcript.messages == [_user("a"), _model("Yes.")]


# a full context


def _full_above(most):
    """An engine's ``stream_chat`` that takes ``most`` messages."""

    def stream(real):
        def stream_chat(messages, **options):
            if len(messages) > most:
                raise PromptTooLongError(f"The prompt has {len(messages)} messages, the context {most}.")
            return real(messages, **options)

        return stream_chat

    return stream


def test_a_message_that_does_not_fit_is_refused_with_what_helps(session):
    session.engine.stream_chat = _full_above(3)(session.engine.stream_chat)
    for text in ("a", "b", "c"):
        handle_line(session, text)
    assert len(session.transcript.messages) == 4
    assert "/trim drops the oldest turns" in session.told()
    assert session.failed
    handle_line(session, "/trim")
    assert session.transcript.messages == [_user("b"), _model("Hello there.")]
    handle_line(session, "c")
    assert len(session.transcript.messages) == 4


def test_the_oldest_turns_make_room_where_that_is_wanted(session):
    system = {"role": "system", "content": "Be brief."}
    session.transcript = Transcript([system])
    session.switches.trim_when_full = True
    session.engine.stream_chat = _full_above(6)(session.engine.stream_chat)
    for text in "abcdefgh":
        handle_line(session, text)
        assert session.transcript.messages[0] == system
        assert session.transcript.messages[-2:] == [_user(text), _model("Hello there.")]
    assert not session.failed
    assert "The context is full; dropped 2 oldest turns." in session.told()


def test_a_message_too_long_alone_is_refused_also_where_turns_are_dropped(session):
    session.switches.trim_when_full = True
    session.engine.stream_chat = _full_above(0)(session.engine.stream_chat)
    session.transcript = Transcript([_user("a"), _model("b")])
    handle_line(session, "c")
    assert (session.transcript.messages, session.failed) == ([], True)


@pytest.mark.parametrize(
    ("line", "left"), [("/trim", "de"), ("/trim 1", "bcde"), ("/trim 4", "e"), ("/trim 99", ""), ("/trim 0", "abcde")]
)
def test_trim_drops_whole_turns_from_the_oldest_on(session, line, left):
    system = {"role": "system", "content": "Be brief."}
    turns = [[_user(text), _model("x")] for text in "abcde"]
    session.transcript = Transcript([system, *(message for turn in turns for message in turn)])
    handle_line(session, line)
    assert [m["content"] for m in session.transcript.messages[1::2]] == [*left]
    assert session.transcript.messages[0] == system


def test_when_full_is_an_option(program):
    seen = []
    real = program.engine.stream_chat
    program.engine.stream_chat = lambda messages, **options: (
        seen.append(messages),
        _full_above(2)(real)(messages, **options),
    )[1]
    assert program("chat", "--when-full", "trim", input="a\nb\n").exit_code == 0
    assert [len(messages) for messages in seen] == [1, 3, 1]
    assert program("chat", "--when-full", "stop", input="a\nb\n").exit_code == 1
    assert program("chat", "--when-full", "drop", input="a\n").exit_code == 2


# commands


@pytest.mark.parametrize(
    ("line", "hint"), [("/hlep", "Did you mean /help?"), ("/xyzzy 1", "no command /xyzzy"), ("/", "no command /")]
)
def test_an_unknown_command_is_a_hint_and_no_message(session, line, hint):
    handle_line(session, line)
    assert hint in session.told()
    assert session.told().count("\n") == 1
    assert session.engine.asked == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/etc/hosts has a line too many", "/etc/hosts has a line too many"),
        ("/ETC/hosts?", "/ETC/hosts?"),
        ("/tmp is full", "/tmp is full"),
        ("/* a comment */", "/* a comment */"),
        ("// a comment", "// a comment"),
        ("//", "//"),
        ("//etc", "//etc"),
        ("//help", "/help"),
        ("//Exit now", "/Exit now"),
        ("a/help me", "a/help me"),
        ("help", "help"),
    ],
)
def test_a_path_and_an_escaped_command_are_messages(session, line, message):
    handle_line(session, line)
    assert session.transcript.messages[0] == _user(message)
    assert not session.failed


@pytest.mark.parametrize("line", ["/clear", "/CLEAR", " /clear\n", "/clear\nnow"])
def test_a_command_is_found_in_any_spelling(session, line):
    handle_line(session, "a")
    handle_line(session, line)
    assert session.transcript.messages == []


def test_help_names_every_command_and_key(session):
    handle_line(session, "/help")
    for name in ("/clear", "/stats", "/draft on|off", "/save FILE", "/load FILE", "/exit", "/quit", "/tint", "/think"):
        assert name in session.told()
    assert "Ctrl-D" in session.told()


def test_clear_keeps_the_system_message(session):
    system = {"role": "system", "content": "Be brief."}
    session.transcript = Transcript([system, _user("a"), _model("b")])
    handle_line(session, "/clear")
    assert session.transcript.messages == [system]
    session.transcript = Transcript([_user("a"), _model("b")])
    handle_line(session, "/clear")
    assert session.transcript.messages == []


def test_draft_switches_the_loaded_drafter(session):
    handle_line(session, "/draft off")
    assert session.engine.drafting is False
    handle_line(session, "/draft on")
    assert session.engine.drafting is True
    handle_line(session, "/draft maybe")
    assert session.engine.drafting is True
    assert "/draft takes on or off, not 'maybe'" in session.told()
    session.engine.drafters = ()
    handle_line(session, "/draft off")
    assert "no drafter is loaded" in session.told()


def test_stats_sum_the_session(session):
    handle_line(session, "/stats")
    assert "No answer yet." in session.told()
    handle_line(session, "a")
    handle_line(session, "b")
    handle_line(session, "/stats")
    assert "all      8      12      4     4  2.0" in session.told()
    assert "tiny, drafter mtp, exact output" in session.told()


def test_save_then_load_is_the_same_conversation(session, tmp_path):
    handle_line(session, "grüß dich")
    kept = list(session.transcript.messages)
    handle_line(session, "/save my talk.json")
    written = json.loads((tmp_path / "my talk.json").read_text(encoding="utf-8"))
    assert (written["messages"], written["model"]) == (kept, "tiny")
    assert written["settings"]["temperature"] == 0.8
    handle_line(session, "/clear")
    handle_line(session, "/load my talk.json")
    assert session.transcript.messages == kept
    assert [p.name for p in tmp_path.iterdir()] == ["my talk.json"]


def test_cache_is_saved_beside_the_conversation_and_loaded_with_it(session, tmp_path):
    handle_line(session, "a")
    session.engine.cached = "cache 1"
    handle_line(session, "/save c.json")
    assert (tmp_path / "c.json.state").read_text() == "cache 1"
    assert "Saved the cache beside it" in session.told()
    session.engine.cached = None
    handle_line(session, "/load c.json")
    assert session.engine.cached == "cache 1"
    assert "not loaded" not in session.told()


def test_cache_that_cannot_be_loaded_leaves_the_messages(session, tmp_path):
    handle_line(session, "a")
    kept = list(session.transcript.messages)
    handle_line(session, "/save c.json")
    assert "The cache was not saved: nothing is cached yet." in session.told()
    (tmp_path / "c.json.state").write_text("rubbish")
    handle_line(session, "/clear")
    handle_line(session, "/load c.json")
    assert session.transcript.messages == kept
    assert "The cache was not loaded: c.json.state is damaged." in session.told()
    assert not session.failed


def test_save_replaces_a_conversation_and_nothing_else(session, tmp_path):
    (tmp_path / "notes.txt").write_text("precious")
    handle_line(session, "a")
    handle_line(session, "/save notes.txt")
    assert (tmp_path / "notes.txt").read_text() == "precious"
    assert "is no conversation" in session.told()
    handle_line(session, "/save c.json")
    handle_line(session, "b")
    handle_line(session, "/save c.json")
    assert len(Transcript.load("c.json").messages) == 4


def test_a_failed_save_leaves_nothing(session, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    handle_line(session, "a")
    handle_line(session, "/save c.json")
    assert list(tmp_path.iterdir()) == []
    assert "No space left on device" in session.told()
    handle_line(session, "/save no/such/folder/c.json")
    assert "cannot be written" in session.told()


def test_a_bad_file_does_not_replace_the_conversation(session, tmp_path):
    handle_line(session, "a")
    kept = list(session.transcript.messages)
    (tmp_path / "bad.json").write_text("{}")
    for name in ("bad.json", "none.json", "."):
        handle_line(session, f"/load {name}")
    handle_line(session, "/load")
    assert session.transcript.messages == kept
    assert session.told().count("localspec: ") == 4


def test_load_leaves_out_a_question_without_an_answer(session, tmp_path):
    (tmp_path / "c.json").write_text(json.dumps([_user("a"), _model("b"), _user("c")]))
    handle_line(session, "/load c.json")
    assert session.transcript.messages == [_user("a"), _model("b")]
    assert "left out: c" in session.told()


@pytest.mark.parametrize("word", ["/exit", "/quit", " /EXIT "])
def test_exit_ends_the_chat(session, word):
    handle_line(session, word)
    assert session.ended


def test_loading_checks_like_everything_else(tmp_path):
    (tmp_path / "c.json").write_text('{"messages": [{"role": "user"}]}')
    with pytest.raises(InputError, match='no "content"'):
        Transcript.load(str(tmp_path / "c.json"))


# continuing


def test_the_last_answer_goes_on(session, program, reply):
    """Its text grows in place, and the next question follows the whole of it."""
    program.reply(reply("One"), reply(" two"), reply("Yes."))
    for line in ("Count.", "/continue", "More?"):
        handle_line(session, line)
    assert program.engine.asked[1:] == [
        [_user("Count."), _model("One")],
        [_user("Count."), _model("One two"), _user("More?")],
    ]
    assert [options.get("continue_final") for options in program.engine.options] == [None, True, None]
    assert session.transcript.messages[-1] == _model("Yes.")


def test_there_must_be_an_answer_to_continue(session, program):
    handle_line(session, "/continue")
    assert "there is no answer to continue" in session.told()
    assert (session.failed, program.engine.asked) == (True, [])


@pytest.mark.parametrize("error", [BackendError("It failed."), PromptTooLongError("Too long."), KeyboardInterrupt()])
def test_what_was_said_stays_when_going_on_fails(session, program, reply, error):
    program.reply(reply("One"), reply("", error=error))
    handle_line(session, "Count.")
    try:
        handle_line(session, "/continue")
    except KeyboardInterrupt:
        assert isinstance(error, KeyboardInterrupt)
    assert session.transcript.messages == [_user("Count."), _model("One")]
    assert "taken back" not in session.told()


def test_a_chat_can_begin_by_continuing(program, tmp_path, reply):
    (tmp_path / "m.json").write_text(json.dumps([_user("Count."), _model("One")]))
    program.reply(reply(" two"), reply("Yes."))
    result = program("chat", "--messages", "m.json", "--continue", input="More?\n")
    assert (result.exit_code, result.stdout) == (0, " two\nYes.\n")
    assert program.engine.asked[1] == [_user("Count."), _model("One two"), _user("More?")]
    (tmp_path / "q.json").write_text(json.dumps([_user("Count.")]))
    for words, code in ((("--messages", "q.json"), 1), ((), 2), (("-p", "x"), 2)):
        assert program("chat", *words, "--continue", input="").exit_code == code
