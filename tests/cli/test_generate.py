"""Laws of ``localspec generate``."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from localspec.errors import BackendError, PromptTooLongError

USER = [{"role": "user", "content": "Hi"}]


def test_the_answer_is_all_there_is_on_stdout(program):
    result = program("generate", "-p", "Hi")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "Hello there.\n", "")
    assert program.engine.asked == [USER]
    assert program.engine.closed


def test_a_prompt_comes_from_an_option_a_file_or_standard_input(program, tmp_path):
    (tmp_path / "p.txt").write_text("Hi\n")
    program("generate", "-p", "Hi")
    program("generate", "-f", "p.txt")
    program("generate", "-f", "-", input="Hi\n")
    program("generate", input="Hi\r\n")
    assert program.engine.asked == [USER] * 4


def test_messages_and_system(program, tmp_path):
    talk = [{"role": "system", "content": "Be brief."}, *USER]
    (tmp_path / "m.json").write_text(json.dumps(talk))
    (tmp_path / "saved.json").write_text(json.dumps({"messages": talk, "model": "tiny"}))
    program("generate", "--messages", "m.json")
    program("generate", "--messages", "saved.json")
    program("generate", "-p", "Hi", "--system", "Be brief.")
    assert program.engine.asked == [talk] * 3


def test_raw_sends_the_text_as_it_is(program):
    program("generate", "--raw", "-p", " Once")
    assert program.engine.asked == [" Once"]


def test_every_flag_reaches_the_engine(program):
    result = program(
        "generate", "-p", "Hi", "-m", "big.gguf", "-md", "small.gguf", "-c", "512", "-t", "3", "-ngl", "7",
        "--device", "CUDA0", "--draft-max", "5", "-n", "9", "--temp", "0", "--top-k", "3", "--top-p", "0.5",
        "--min-p", "0.1", "--seed", "42", "--stop", "a", "--stop", "b", "--exactness", "require", "--pass-width", "8",
        "--ngram-file", "n", "--chat-template", "gemma", "--verbose", "-ctk", "q4_0", "-ctv", "bf16",
        "--mmproj", "m.gguf", "--image-tokens", "70-280",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    ((target, draft), loaded) = program.loads[0]
    assert (target, draft) == ("big.gguf", "small.gguf")
    del loaded["progress"]
    assert loaded == {
        "ctx_size": 512, "threads": 3, "gpu_layers": 7, "device": "CUDA0", "draft_max": 5, "exactness": "require",
        "pass_width": 8, "ngram_file": "n", "chat_template": "gemma", "verbose": True, "cache_type_k": "q4_0",
        "cache_type_v": "bf16", "parallel": 1, "cache_ram": None, "rpc": None, "mmproj": "m.gguf",
        "image_tokens": (70, 280),
    }  # fmt: skip
    options = program.engine.options[0]
    del options["progress"]
    assert options == {
        "max_tokens": 9, "temperature": 0.0, "top_k": 3, "top_p": 0.5, "min_p": 0.1, "seed": 42, "stop": ["a", "b"]
    }  # fmt: skip


@pytest.mark.parametrize(
    ("args", "name", "value"),
    [
        (["-n", "-1"], "max_tokens", None),
        (["-n", "-2"], "max_tokens", None),
        (["--seed", "-1"], "seed", None),
        (["-ngl", "all"], "gpu_layers", -1),
        (["-ngl", "AUTO"], "gpu_layers", None),
        (["-ngl", "99"], "gpu_layers", 99),
        (["-c", "0"], "ctx_size", 4096),
    ],
)
def test_values_of_llama_cpp_are_taken(program, args, name, value):
    result = program("generate", "-p", "Hi", *args)
    assert (result.exit_code, result.stderr) == (0, "")
    assert {**program.engine.options[0], **program.loads[0][1]}[name] == value


def test_a_hub_name_has_the_flag_of_llama_cpp_too(program):
    program("generate", "-p", "Hi", "-hf", "user/repo:Q4_0")
    assert program.loads[0][0][0] == "user/repo:Q4_0"


@pytest.mark.parametrize("flag", ["-d", "-md", "--draft", "--model-draft"])
def test_the_drafter_has_llama_cpps_flags_too(program, flag):
    program("generate", "-p", "Hi", flag, "ngram")
    assert program.loads[0][0] == ("tiny", "ngram")


def test_json_is_one_object_as_the_contract_says(program):
    result = program("generate", "-p", "Hi", "--json", "--seed", "5")
    assert result.stderr == ""
    found = json.loads(result.stdout)
    assert list(found) == ["text", "tokens", "finish_reason", "seed", "exactness", "timings", "draft"]
    assert (found["text"], found["seed"], found["finish_reason"]) == ("Hello there.", 5, "stop")
    assert {"prompt_tokens", "prompt_s", "generated_tokens", "generate_s", "tokens_per_s", "python_s"} <= set(
        found["timings"]
    )
    assert set(found["draft"]) == {
        "proposed", "accepted", "acceptance", "mean_accepted", "by_drafter", "per_position"
    }  # fmt: skip


def test_stats_are_a_summary_on_stderr(program):
    result = program("generate", "-p", "Hi", "--stats")
    assert result.stdout == "Hello there.\n"
    assert "4.0 tok/s" in result.stderr
    assert "2 of 3 accepted" in result.stderr
    assert "seed    11, exact output" in result.stderr


def test_a_new_pair_is_measured_behind_the_answer(program, tmp_path):
    """For a bounded time, and only what drafting needs."""
    program("generate", "-p", "hi")
    assert program.engine.measured == [(2.0, False)]
    (tmp_path / "q.jsonl").write_text(json.dumps({"id": "a", "messages": USER}))
    program("generate", "--jsonl", "q.jsonl")
    assert program.engine.measured == [(2.0, False), (0.1, False)]


def test_jsonl_answers_in_order_with_the_same_ids(program, tmp_path):
    rows = [{"id": "a", "messages": USER}, {"id": 2, "messages": USER, "category": "chat"}]
    (tmp_path / "q.jsonl").write_text("\n\n".join(map(json.dumps, rows)))
    result = program("generate", "--jsonl", "q.jsonl", "--json")
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["id"] for row in found] == ["a", 2]
    assert all(row["text"] == "Hello there." for row in found)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("{", "is not JSON"),
        ("[1]", "holds a list"),
        ('{"messages": []}', 'has no "id"'),
        ('{"id": 1}', 'has no "messages"'),
        ('{"id": null, "messages": []}', 'has null as "id"'),
        ('{"id": 1, "messages": []}', "holds an empty list"),
        ('{"id": 1, "messages": [{"role": "assistant", "content": "x"}]}', "end with a user message"),
    ],
)
def test_a_bad_line_is_named_before_anything_is_answered(program, tmp_path, line, sentence):
    good = json.dumps({"id": "a", "messages": USER})
    (tmp_path / "q.jsonl").write_text(f"{good}\n{line}\n")
    result = program("generate", "--jsonl", "q.jsonl")
    assert (result.exit_code, result.stdout, program.loads) == (1, "", [])
    assert "line 2 of q.jsonl" in result.stderr
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_prompt_too_long_does_not_end_the_file(program, tmp_path, reply):
    rows = [{"id": n, "messages": USER} for n in range(3)]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows)))
    program.reply(reply(), reply(text="", error=PromptTooLongError("Too long.")), reply())
    result = program("generate", "--jsonl", "q.jsonl")
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 1
    assert [row["id"] for row in found] == [0, 1, 2]
    assert found[1] == {"id": 1, "error": "Too long."}
    assert result.stderr == "localspec: 1: Too long.\nlocalspec: 1 of 3 prompts failed.\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{}", "holds an object"),
        ("[]", "holds an empty list"),
        ("[1]", "message 1 of m.json is a number"),
        ('[{"content": "x"}]', 'has no "role"'),
        ('[{"role": "user"}]', 'has no "content"'),
        ('[{"role": "robot", "content": "x"}]', 'has the role "robot"'),
        ('[{"role": "user", "content": 1}]', 'has a number as "content"'),
        ('[{"role": "user", "content": "\\ud800"}]', "surrogate"),
        ('[{"role": "system", "content": "x"}]', "end with a user message"),
        ("[\n1,,2]", "line 2, column 3"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_each_fault_of_a_message_list_has_its_sentence(program, tmp_path, text, sentence):
    (tmp_path / "m.json").write_text(text)
    result = program("generate", "--messages", "m.json")
    assert (result.exit_code, result.stdout, program.loads) == (1, "", [])
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["-n", "0"], "max_tokens is 0; it must be at least 1."),
        (["-ngl", "most"], "'most' is not a valid"),
        (["-ctk", "q9_9"], "'q9_9' is not one of"),
        (["--temp", "-1"], "temperature is -1.0; it must be"),
        (["--top-p", "2"], "top_p is 2.0; it must be from 0.0 to 1.0"),
        (["--min-p", "-0.1"], "min_p is -0.1"),
        (["--top-k", "-1"], "top_k is -1"),
        (["--seed", "-2"], "seed is -2"),
        (["--draft-max", "99"], "draft max is 99; it must be from 0 to 63"),
        (["-c", "-1"], "ctx_size is -1"),
        (["-t", "0"], "threads is 0"),
        (["--temp", "nan"], "temperature is nan"),
        (["--stop", ""], "stop string"),
    ],
)
def test_a_value_out_of_range_is_told_before_a_model_is_opened(program, args, sentence):
    result = program("generate", "-p", "Hi", *args)
    assert (result.exit_code, result.stdout, program.loads) == (2, "", [])
    assert sentence in result.stderr


@pytest.mark.parametrize(
    "args",
    [
        ["-p", "Hi", "-f", "p.txt"],
        ["-p", "Hi", "--messages", "m.json"],
        ["--jsonl", "q.jsonl", "-p", "Hi"],
        ["--jsonl", "q.jsonl", "--raw"],
        ["--messages", "m.json", "--raw"],
        ["--raw", "-p", "Hi", "--system", "x"],
        ["-p", ""],
        ["-p", "  \n"],
        [],
    ],
)
def test_exactly_one_prompt_with_something_in_it(program, args):
    result = program("generate", *args, input="")
    assert (result.exit_code, result.stdout, program.loads) == (2, "", [])
    assert result.stderr.startswith("localspec: ")


def test_no_prompt_at_a_terminal_names_dash_p(program, monkeypatch):
    monkeypatch.setattr("localspec.cli.options.prompt.sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True)))
    result = program("generate")
    assert result.exit_code == 2
    assert "-p TEXT" in result.stderr


def test_bytes_that_are_no_utf8_are_told_with_their_offset(program, tmp_path):
    (tmp_path / "p.txt").write_bytes(b"caf\xe9")
    for args, data, where in ((["-f", "p.txt"], b"", "p.txt"), ([], b"caf\xe9\n", "standard input")):
        result = program("generate", *args, input=data)
        assert result.exit_code == 1
        assert result.stderr == (f"localspec: {where} is not valid UTF-8 at byte 3 (0xe9); convert it to UTF-8.\n")
    assert program.loads == []


def test_an_argument_that_is_no_utf8_is_told(program):
    result = program("generate", "-p", "caf\udce9")
    assert result.exit_code == 1
    assert "-p is not valid UTF-8 at byte 3 (0xe9)" in result.stderr


def test_a_byte_order_mark_is_no_part_of_the_prompt(program):
    program("generate", input=b"\xef\xbb\xbfHi\n")
    assert program.engine.asked == [USER]


@pytest.mark.parametrize(("name", "sentence"), [("none.txt", "there is no file none.txt"), (".", "is a folder")])
def test_a_file_that_cannot_be_read_is_told(program, name, sentence):
    result = program("generate", "-f", name)
    assert result.exit_code == 1
    assert sentence in result.stderr


def test_an_interrupt_keeps_what_was_printed(program, reply):
    program.reply(reply(text="One two", error=KeyboardInterrupt()))
    result = program("generate", "-p", "Hi")
    assert (result.exit_code, result.stdout, result.stderr) == (130, "One two\n", "")


def test_an_error_on_the_way_keeps_what_was_printed(program, reply):
    program.reply(reply(text="One two", error=BackendError("It broke.")))
    result = program("generate", "-p", "Hi")
    assert (result.exit_code, result.stdout) == (1, "One two\n")
    assert result.stderr == "localspec: It broke.\n"


def test_a_full_context_is_one_sentence_on_stderr(program, reply):
    program.reply(reply(notice="The context is full.", finish_reason="length"))
    result = program("generate", "-p", "Hi")
    assert (result.exit_code, result.stdout) == (0, "Hello there.\n")
    assert result.stderr == "localspec: The context is full.\n"


def test_thoughts_are_no_part_of_the_answer(program, reply):
    program.reply(reply(thought="hmm"))
    assert program("generate", "-p", "Hi").stdout == "Hello there.\n"


def test_what_the_engine_has_to_tell_goes_to_stderr(program):
    program.engine.notices = ("No assistant was found.",)
    result = program("generate", "-p", "Hi")
    assert (result.stdout, result.stderr) == ("Hello there.\n", "localspec: No assistant was found.\n")


def test_the_last_message_is_continued_on_request(program, tmp_path):
    """Only the assistant's, and never without being asked."""
    talk = [*USER, {"role": "assistant", "content": "Hello"}]
    (tmp_path / "m.json").write_text(json.dumps(talk))
    (tmp_path / "q.json").write_text(json.dumps(USER))
    (tmp_path / "m.jsonl").write_text(json.dumps({"id": 1, "messages": talk}))
    (tmp_path / "f.jsonl").write_text(json.dumps({"id": 1, "messages": talk, "grammar": 'root ::= "x"'}))
    (tmp_path / "s.json").write_text("{}")
    for source in (("--messages", "m.json"), ("--jsonl", "m.jsonl")):
        result = program("generate", *source, "--continue")
        assert result.exit_code == 0
        assert "Hello there." in result.stdout
        assert program.engine.asked[-1] == talk
        assert program.engine.options[-1]["continue_final"] is True
        result = program("generate", *source)
        assert result.exit_code == 1
        assert "add --continue" in result.stderr
    assert "continue_final" not in _options_of(program, "generate", "--messages", "q.json")
    for words, code, told in (
        (("--messages", "q.json"), 1, "q.json has the role user; --continue needs an assistant's"),
        (("-p", "x"), 2, "add it"),
        ((), 2, "add it"),
        (("--messages", "m.json", "--raw"), 2, "leave out --raw"),
        (("--messages", "m.json", "--json-schema", "s.json"), 2, "a structured answer cannot continue"),
        (("--jsonl", "f.jsonl"), 2, "a structured answer cannot continue"),
    ):
        result = program("generate", *words, "--continue")
        assert (result.exit_code, result.stdout) == (code, "")
        assert told in result.stderr


def _options_of(program, *words):
    assert program(*words).exit_code == 0
    return program.engine.options[-1]


def test_parts_of_a_content_are_lines(program, tmp_path):
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    (tmp_path / "m.json").write_text(json.dumps([{"role": "user", "content": parts}]))
    assert program("generate", "--messages", "m.json").exit_code == 0
    assert program.engine.asked == [[{"role": "user", "content": "one\ntwo"}]]
    for bad, told in (
        ([{"type": "image_url", "image_url": {"url": "x"}}], "part 1 of message 1 of m.json has 'x' as 'image_url'"),
        ([{"type": "video", "video": "x"}], "part 1 of message 1 of m.json has the type 'video'"),
        ([], "message 1 of m.json has an empty list"),
        ([{"type": "text", "text": "\ud800"}], "surrogate"),
    ):
        (tmp_path / "m.json").write_text(json.dumps([{"role": "user", "content": bad}]))
        result = program("generate", "--messages", "m.json")
        assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
        assert told in result.stderr


def test_a_chat_template_is_chosen_by_name_or_file(program, monkeypatch):
    """A flag overrides the setting of the other one; two of a kind are one too many."""

    def result(*words, **environment):
        with monkeypatch.context() as patch:
            for key, value in environment.items():
                patch.setenv(key, value)
            return program("generate", "-p", "x", *words)

    def template(*words, **environment):
        assert result(*words, **environment).exit_code == 0
        return program.loads[-1][1]["chat_template"]

    name, file = {"LOCALSPEC_CHAT_TEMPLATE": "gemma"}, {"LOCALSPEC_CHAT_TEMPLATE_FILE": "b.jinja"}
    assert template() is None
    assert template("--chat-template", "chatml") == "chatml"
    assert template("--chat-template-file", "gemma") == Path("gemma")
    assert template(**name) == "gemma"
    assert template("--chat-template-file", "a.jinja", **name) == Path("a.jinja")
    assert template("--chat-template", "llama3", **file) == "llama3"
    both = result("--chat-template", "gemma", "--chat-template-file", "a.jinja")
    for refused in (both, result(**name, **file), result("--chat-template", "nope")):
        assert (refused.exit_code, refused.stdout) == (2, "")
    assert "both give a template" in both.stderr
