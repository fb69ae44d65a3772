"""Laws of ``localspec config``, and of what settings do to the other commands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from localspec.cli.settings import FileDefaults, check_settings, settings
from localspec.errors import UsageError


@pytest.fixture
def file(tmp_path, monkeypatch):
    """The settings file, not there yet."""
    path = tmp_path / "settings" / "config.toml"
    monkeypatch.setenv("LOCALSPEC_CONFIG", str(path))
    monkeypatch.delenv("LOCALSPEC_MODEL", raising=False)
    return path


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)


def _shown(program, *args):
    result = program("config", "--json", *args)
    return {key: (one["value"], one["source"]) for key, one in json.loads(result.stdout).items()}


# what beats what


def test_a_flag_beats_the_environment_beats_the_file(program, file, monkeypatch):
    _write(file, 'model = "file"\nthreads = 2\nctx-size = 100\nmax_tokens = 5\n')
    monkeypatch.setenv("LOCALSPEC_THREADS", "3")
    monkeypatch.setenv("LOCALSPEC_CTX_SIZE", "200")
    program("generate", "-p", "x", "-c", "300")
    (name, _), options = program.loads[0]
    assert (name, options["threads"], options["ctx_size"]) == ("file", 3, 300)
    assert program.engine.options[0]["max_tokens"] == 5


def test_each_setting_reaches_the_engine_from_the_file_and_the_environment(program, file, monkeypatch):
    _write(file, "temp = 0.1\ntop-k = 7\nrepeat-penalty = 1.5\n")
    monkeypatch.setenv("LOCALSPEC_TOP_P", "0.5")
    program("generate", "-m", "tiny", "-p", "x")
    used = program.engine.options[0]
    assert [used[name] for name in ("temperature", "top_k", "top_p", "repeat_penalty")] == [0.1, 7, 0.5, 1.5]


def test_an_empty_variable_is_not_set(program, file, monkeypatch):
    monkeypatch.setenv("LOCALSPEC_THREADS", "")
    program("generate", "-m", "tiny", "-p", "x")
    assert program.loads[0][1]["threads"] is None


@pytest.mark.parametrize(
    "source", [["--raw", "-p", "x"], ["--messages", "m.json"], ["--jsonl", "l.jsonl"]], ids=lambda args: args[0]
)
def test_a_system_message_by_default_gives_way_where_none_can_be(program, file, tmp_path, source):
    _write(file, 'system = "Be brief."\n')
    message = {"role": "user", "content": "x"}
    (tmp_path / "m.json").write_text(json.dumps([message]))
    (tmp_path / "l.jsonl").write_text(json.dumps({"id": 1, "messages": [message]}))
    result = program("generate", "-m", "tiny", *source)
    assert (result.exit_code, program.engine.asked[0]) == (0, "x" if source[0] == "--raw" else [message])
    assert program("generate", "-m", "tiny", "--system", "No.", *source).exit_code == 2
    program("generate", "-m", "tiny", "-p", "y")
    assert program.engine.asked[1][0] == {"role": "system", "content": "Be brief."}


# what is shown


def test_every_setting_is_shown_with_its_source(program, file, monkeypatch):
    _write(file, "temp = 0.5\ntop-k = 3\n")
    monkeypatch.setenv("LOCALSPEC_TOP_K", "4")
    shown = _shown(program)
    assert shown.keys() == settings().keys()
    assert (shown["temp"], shown["top-k"]) == ((0.5, "file"), (4, "LOCALSPEC_TOP_K"))
    wanted = {"min-p": 0.05, "offline": False, "threads": None}
    assert {key: shown[key] for key in wanted} == {key: (value, "default") for key, value in wanted.items()}
    text = program("config").stdout
    for row in (
        "temp                0.5  (file)",
        "threads             physical cores, fewer under load  (default)",
        str(file),
    ):
        assert row in text


def test_what_was_set_is_shown_last(program, file):
    _write(file, "draft = 'none'\nmin-p = 0.1\n")
    rows = program("config").stdout.splitlines()
    assert [row.split()[0] for row in rows[-4:-2]] == ["draft", "min-p"]
    assert (rows[-2], rows[-1]) == ("", str(file))


def test_the_usual_options_are_settings():
    model = {
        "model",
        "draft",
        "ctx-size",
        "threads",
        "gpu-layers",
        "device",
        "draft-max",
        "exactness",
        "pass-width",
        "ngram-file",
        "offline",
    }
    assert model | {"temp", "top-k", "top-p", "min-p", "max-tokens", "seed", "system"} <= settings().keys()
    assert not {"prompt", "file", "messages", "stop", "json-schema", "logit-bias"} & settings().keys()


def test_no_line_is_wider_than_a_hundred_columns(program, file):
    assert max(map(len, program("config").stdout.splitlines()[:-1])) <= 100


# get, set, unset, path, edit


def test_what_is_set_is_got_and_unset(program, file):
    result = program("config", "set", "temp", "0.25")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "temp is 0.25" in result.stderr
    assert program("config", "get", "temp").stdout == "0.25\n"
    assert program("config", "unset", "temp").exit_code == 0
    assert program("config", "get", "temp").stdout == "0.8\n"
    assert program("config", "get", "threads").stdout == ""
    assert program("config", "path").stdout == f"{file}\n"


def test_words_of_llama_cpp_are_kept_as_they_are(program, file):
    for key, value in (("gpu-layers", "all"), ("max-tokens", "-1"), ("ctx-size", "0")):
        assert program("config", "set", key, value).exit_code == 0
        assert program("config", "get", key).stdout == f"{value}\n"
    program("generate", "-p", "x")
    loaded = program.loads[0][1]
    assert (loaded["gpu_layers"], loaded["ctx_size"]) == (-1, 4096)
    assert program.engine.options[0]["max_tokens"] is None


@pytest.mark.parametrize(("text", "written"), [("on", "true"), ("false", "false")])
def test_a_switch_takes_yes_and_no(program, file, text, written):
    program("config", "set", "offline", text)
    assert file.read_text().splitlines()[-1] == f"offline = {written}"


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("threads", "0", "threads is 0; it must be from 1 to 512."),
        ("temp", "warm", "temp: 'warm' is not a valid float."),
        ("top-p", "1.5", "top_p is 1.5; it must be from 0.0 to 1.0"),
        ("top-k", "-5", "top_k is -5; it must be at least 0"),
        ("ctx-size", "1e9", "ctx-size: '1e9' is not a valid integer."),
        ("exactness", "maybe", "exactness: 'maybe' is not one of"),
        ("offline", "maybe", "offline: 'maybe' is not a valid boolean"),
        ("tempp", "1", "there is no setting 'tempp'. Did you mean temp?"),
        ("stop", "x", "there is no setting 'stop'."),
    ],
)
def test_what_the_flag_refuses_is_refused_and_nothing_written(program, file, key, value, sentence):
    result = program("config", "set", key, value)
    assert (result.exit_code, file.exists()) == (2, False)
    assert sentence in result.stderr


def test_keys_are_spelt_as_one_likes(program, file):
    for key in ("top_k", "TOP-K"):
        assert program("config", "get", key).stdout == "40\n"
    assert program("config", "get", "--", "--top-k").stdout == "40\n"


def test_a_file_named_from_here_is_found_from_elsewhere(program, file, tmp_path):
    (tmp_path / "a.gguf").touch()
    program("config", "set", "model", "a.gguf")
    assert program("config", "get", "model").stdout == f"{tmp_path / 'a.gguf'}\n"
    program("config", "set", "ngram-file", "new.ngrams")
    assert program("config", "get", "ngram-file").stdout == f"{tmp_path / 'new.ngrams'}\n"
    (tmp_path / "tiny").touch()
    program("config", "set", "model", "tiny")
    assert program("config", "get", "model").stdout == "tiny\n"


def test_a_variable_that_beats_the_file_is_mentioned(program, file, monkeypatch):
    monkeypatch.setenv("LOCALSPEC_TEMP", "1.0")
    assert "LOCALSPEC_TEMP is set in the environment" in program("config", "set", "temp", "0").stderr


def test_edit_opens_the_file_and_tells_what_is_wrong_with_it(program, file, monkeypatch):
    monkeypatch.setattr(click, "edit", lambda filename: Path(filename).write_text("temp = 1\ntop-k = -1\n"))
    result = program("config", "edit")
    assert result.exit_code == 1
    assert result.stderr == (f"localspec: {file} line 2: top_k is -1; it must be at least 0 (0 switches it off).\n")


# what is wrong


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("temp = 0.5\nthreads = 0\n", "line 2: threads is 0; it must be from 1 to 512."),
        ('\nthreads = "many"\n', "line 2: threads: 'many' is not a valid integer."),
        ("threads = 4.5\n", "line 1: threads: '4.5' is not a valid integer."),
        ("threads = true\n", "line 1: threads: 'true' is not a valid integer."),
        (
            "temp = 0.5\nthreads = \n",
            "is damaged at line 2: unexpected end of line; mend it with `localspec",
        ),
    ],
)
def test_a_wrong_file_is_one_sentence_with_the_line_and_config_still_works(program, file, monkeypatch, text, sentence):
    _write(file, text)
    result = program("generate", "-m", "tiny", "-p", "x")
    assert (result.exit_code in (1, 2), program.loads, result.stderr.count("\n")) == (True, [], 1)
    assert sentence in result.stderr
    monkeypatch.setenv("LOCALSPEC_TOP_K", "4")
    shown = program("config")
    assert (shown.exit_code, sentence in shown.stderr) == (0, True)
    assert "top-k               4  (LOCALSPEC_TOP_K)" in shown.stdout


def test_a_wrong_value_that_is_not_used_is_no_matter(program, file, monkeypatch):
    _write(file, "threads = 0\ntop-k = 'x'\n")
    monkeypatch.setenv("LOCALSPEC_TOP_K", "3")
    assert program("generate", "-m", "tiny", "-p", "x", "-t", "2").exit_code == 0


def test_a_damaged_file_is_not_changed(program, file):
    _write(file, "temp = \n")
    assert program("config", "set", "top-k", "3").exit_code == 1
    assert file.read_text() == "temp = \n"


def test_a_key_that_is_no_setting_is_told_of_and_left_alone(program, file):
    _write(file, "tempp = 1\ntemp = 0.5\n")
    result = program("generate", "-m", "tiny", "-p", "x")
    assert result.exit_code == 0
    assert result.stderr == f"localspec: {file} line 1: there is no setting 'tempp'. Did you mean temp?\n"
    assert program.engine.options[0]["temperature"] == 0.5


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [("LOCALSPEC_TEMP", "x", "'x' is not a valid float"), ("LOCALSPEC_THREADS", "0", "threads is 0; it must be from")],
)
def test_a_wrong_variable_is_named(program, file, monkeypatch, variable, value, sentence):
    monkeypatch.setenv(variable, value)
    result = program("generate", "-m", "tiny", "-p", "x")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"localspec: {variable}: ")
    assert sentence in result.stderr
    listed = program("config")
    assert (listed.exit_code, variable in listed.stderr) == (0, True)


def test_a_wrong_flag_is_not_blamed_on_a_variable(program, file, monkeypatch):
    monkeypatch.setenv("LOCALSPEC_THREADS", "2")
    assert program("generate", "-p", "x", "-c", "-1").stderr.startswith("localspec: ctx_size is -1;")


def test_checking_reads_no_environment(monkeypatch):
    monkeypatch.setenv("LOCALSPEC_THREADS", "0")
    assert check_settings({"temp": "0.5", "offline": "yes"}) == {"temp": 0.5, "offline": True}
    with pytest.raises(UsageError, match="top_k"):
        check_settings({"top-k": "-1"})


@pytest.mark.parametrize("args", [["config", "get", "temp"], ["list"], ["generate", "-h"]])
def test_settings_are_known_in_a_process_that_runs_one_command(file, args):
    run = [sys.executable, "-m", "localspec", *args]
    done = subprocess.run(run, check=True, capture_output=True, text=True)
    assert args[-1] != "temp" or (done.stdout, done.stderr) == ("0.8\n", "")


# what it costs


def test_help_does_not_read_the_file(program, file):
    _write(file, "temp = \n")
    assert program("generate", "-h").exit_code == 0
    assert "[default: 0.8]" in program("generate", "-h").stdout


def test_options_of_their_own_are_no_settings(file):
    _write(file, "threads = 3\ntemp = 0.5\n")

    @click.command()
    @click.option("-t", "--threads")
    @click.pass_context
    def own(context, **_):
        return dict(FileDefaults(context.command))

    assert own.main([], standalone_mode=False) == {}


def test_the_parser_is_loaded_only_where_there_is_a_file():
    code = "\ntry: cli(['generate', '-h'])\nfinally: print('toml' in str(sys.modules.keys()))"
    run = [sys.executable, "-c", f"import sys; from localspec.cli import cli{code}"]
    assert subprocess.run(run, check=True, capture_output=True, text=True).stdout.splitlines()[-1] == "False"
