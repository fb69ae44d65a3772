"""Laws of tools and log probabilities on the command line."""

from __future__ import annotations

import base64
import io
import json

import pytest

from localspec.cli.chat.session import Session, Switches
from localspec.cli.chat.slash_commands import handle_line
from localspec.cli.chat.transcript import Transcript
from localspec.cli.options.answer import AnswerOptions
from localspec.cli.terminal.notes import Notes

TOOL = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
OTHER = {"id": "call_2", "type": "function", "function": {"name": "add", "arguments": "{}"}}
USER = {"role": "user", "content": "Hi"}
ANSWER = AnswerOptions(temperature=0.8, top_k=40, top_p=0.95, min_p=0.05, seed=None, stop=(), max_tokens=None)


@pytest.fixture
def files(tmp_path):
    (tmp_path / "t.json").write_text(json.dumps([TOOL]))
    return tmp_path


@pytest.fixture
def session(program):
    """A chat with tools, whose notes can be read."""
    notes = io.StringIO()
    made = Session(program.engine, Transcript(), ANSWER, Switches(), Notes(notes), True, tools=[TOOL])
    made.told = notes.getvalue
    return made


# generate


def test_tools_reach_the_engine_and_calls_the_json(program, reply, files):
    program.reply(reply("", finish_reason="tool_calls", tool_calls=(CALL,), thought="Hm."))
    result = program("generate", "-p", "Hi", "--tools", "t.json", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert program.engine.options[0]["tools"] == [TOOL]
    out = json.loads(result.stdout)
    assert (out["finish_reason"], out["tool_calls"], out["thought"]) == ("tool_calls", [CALL], "Hm.")


def test_calls_are_told_of_where_text_is_printed(program, reply, files):
    program.reply(reply("Wait.", finish_reason="tool_calls", tool_calls=(CALL,)))
    result = program("generate", "-p", "Hi", "--tools", "t.json")
    assert (result.stdout, result.stderr) == ("Wait.\n", 'Tool call: add({"a": 1})\n')


def test_json_has_neither_where_there_is_none(program):
    out = json.loads(program("generate", "-p", "Hi", "--json").stdout)
    assert not out.keys() & {"tool_calls", "thought", "logprobs"}
    assert not program.engine.options[0].keys() & {"tools", "logprobs"}


def test_every_token_has_its_log_probabilities(program):
    out = json.loads(program("generate", "-p", "Hi", "--json", "--logprobs", "2").stdout)
    assert program.engine.options[0]["logprobs"] == 2
    assert [one["token"] for one in out["logprobs"]] == out["tokens"]
    part = {"token": 200, "text": "\ufffd", "bytes": base64.b64encode(b"\xc8").decode(), "logprob": -2.0}
    token = {"token": 1, "text": "\x01", "logprob": -0.5}
    assert out["logprobs"][1] == {**token, "top": [token, part]}


def test_a_file_of_prompts_has_them_too(program, reply, files):
    (files / "p.jsonl").write_text(json.dumps({"id": 1, "messages": [USER]}))
    program.reply(reply("", finish_reason="tool_calls", tool_calls=(CALL,)))
    out = json.loads(program("generate", "--jsonl", "p.jsonl", "--tools", "t.json", "--logprobs", "0").stdout)
    assert (out["tool_calls"], out["logprobs"]) == ([CALL], [])


def test_messages_may_hold_calls_and_results(program, files):
    silent = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    messages = [USER, silent, {"role": "tool", "tool_call_id": "call_1", "content": "1"}]
    (files / "m.json").write_text(json.dumps(messages))
    program("generate", "--messages", "m.json", "--tools", "t.json")
    assert program.engine.asked == [[USER, {**silent, "content": ""}, messages[2]]]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "is not JSON"),
        ("{}", "give a list"),
        ("[1]", "tool 1 of t.json is 1; it must be"),
        ('[{"name": "add"}]', "tool 1 of t.json is"),
        ('[{"function": {}}]', 'needs a "name"'),
        ('[{"function": {"name": 3}}]', "has the name 3"),
        ('[{"type": "other", "function": {"name": "a"}}]', "tool 1 of t.json is"),
        ('[{"function": {"name": "a"}}, {"function": {"name": "a"}}]', "second tool of the name a"),
        ('[{"function": {"name": "a", "parameters": []}}]', "JSON schema"),
        ('[{"function": {"name": "a", "description": 1}}]', '"description" 1; it must be text'),
        ('[{"function": {"name": "a", "description": "\\ud800"}}]', "that JSON does not have"),
    ],
)
def test_bad_tools_are_one_sentence_before_a_model_is_opened(program, files, text, told):
    (files / "t.json").write_text(text)
    for command in (["generate", "-p", "Hi"], ["chat", "-p", "Hi"]):
        result = program(*command, "--tools", "t.json", input="")
        assert (result.exit_code, result.stdout, program.loads) == (1, "", [])
        assert told in result.stderr
        assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ({"role": "tool", "content": "1"}, 'message 2 of m.json has the role tool and no "tool_call_id"'),
        ({"role": "tool", "content": "1", "tool_call_id": "x"}, 'answers the call "x", which no earlier message made'),
        ({"role": "tool", "tool_call_id": "x"}, 'no "content"'),
        ({"role": "assistant", "content": None}, 'null as "content"'),
        ({"role": "assistant", "content": "", "tool_calls": 1}, 'as "tool_calls"; it must be a list'),
        ({"role": "assistant", "content": "", "tool_calls": [1]}, "call 1 of message 2 of m.json is 1"),
        ({"role": "user", "content": "", "tool_calls": [CALL]}, "only assistants call"),
        ({"role": "assistant", "content": "", "tool_calls": [{**CALL, "id": None}]}, 'has the "id" None'),
        ({"role": "assistant", "content": "", "tool_calls": [{**CALL, "function": {}}]}, 'has the "name" None'),
        (
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"id": "a", "function": {"name": "b", "arguments": "["}}],
            },
            "has the \"arguments\" '['; they must be a JSON object",
        ),
    ],
)
def test_bad_calls_and_results_are_one_sentence(program, files, message, told):
    (files / "m.json").write_text(json.dumps([USER, message, USER]))
    result = program("generate", "--messages", "m.json")
    assert (result.exit_code, result.stdout, program.loads) == (1, "", [])
    assert told in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--logprobs", "2"], "--json"),
        (["--logprobs", "-1", "--json"], "logprobs is -1"),
        (["--logprobs", "x", "--json"], "not a valid integer"),
        (["--tools", "t.json", "--raw"], "--raw"),
    ],
)
def test_wrong_usage_is_told_before_a_model_is_opened(program, files, args, told):
    result = program("generate", "-p", "Hi", *args)
    assert (result.exit_code, program.loads) == (2, [])
    assert told in result.stderr


# chat


def test_a_call_is_a_note_and_its_result_goes_on(session, reply, capsys):
    session.engine.replies = [reply("Wait.", finish_reason="tool_calls", tool_calls=(CALL, OTHER)), reply("Done.")]
    handle_line(session, "add")
    assert session.engine.options[0]["tools"] == [TOOL]
    assert 'Tool call: add({"a": 1})' in session.told()
    assert session.transcript.messages[1] == {"role": "assistant", "content": "Wait.", "tool_calls": [CALL, OTHER]}
    handle_line(session, "/result 3")
    assert len(session.engine.asked) == 1
    handle_line(session, "/result 4")
    results = [{"role": "tool", "tool_call_id": f"call_{n}", "content": text} for n, text in ((1, "3"), (2, "4"))]
    assert session.engine.asked[1][2:] == results
    assert capsys.readouterr().out == "Wait.\nDone.\n"
    handle_line(session, "/result 5")
    assert "there is no tool call to answer" in session.told()


def test_a_result_whose_answer_fails_is_taken_back(session, reply):
    session.engine.replies = [
        reply("", finish_reason="tool_calls", tool_calls=(CALL,)),
        reply("", error=KeyboardInterrupt()),
    ]
    handle_line(session, "add")
    handle_line(session, "/result 3")
    assert session.transcript.open_calls() == ["call_1"]


def test_calls_are_saved_and_loaded(session, reply, tmp_path):
    session.engine.replies = [reply("", finish_reason="tool_calls", tool_calls=(CALL,), thought="Hm.")]
    handle_line(session, "add")
    kept = list(session.transcript.messages)
    assert kept[1]["reasoning_content"] == "Hm."
    handle_line(session, "/save c.json")
    handle_line(session, "/clear")
    handle_line(session, "/load c.json")
    assert session.transcript.messages == kept
    assert session.transcript.open_calls() == ["call_1"]


def test_tools_of_a_piped_chat(program, reply, files):
    program.reply(reply("", finish_reason="tool_calls", tool_calls=(CALL,)), reply("One."))
    result = program("chat", "--tools", "t.json", input="add\n/result 1\n")
    assert (result.exit_code, result.stdout) == (0, "One.\n")
    assert result.stderr == 'Tool call: add({"a": 1})\n'
