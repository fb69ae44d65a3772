"""Laws of the program as a whole: help, version, errors, exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from importlib import metadata

import click
import pytest

from localspec import __version__
from localspec.cli import COMMANDS
from localspec.cli.errors import RunState, exit_code
from localspec.errors import ModelNotFoundError, UsageError
from tests.helpers.paths import ROOT

HEAVY = ("numpy", "llama_cpp", "jinja2", "prompt_toolkit", "gguf", "huggingface_hub")


def _python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["generate", "-h"], ["chat", "-h"], ["devices", "-h"]])
def test_help_imports_nothing_heavy(args):
    code = f"""
import sys
from localspec.cli import cli
try:
    cli({args!r})
except SystemExit as done:
    assert done.code == 0, done.code
print("loaded:", [name for name in {HEAVY!r} if name in sys.modules])
"""
    assert _python(code).endswith("loaded: []\n")


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_every_command_has_help(program, command, flag):
    result = program(*command, flag)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: {' '.join(['localspec', *command])}")
    assert result.stderr == ""


def test_no_command_is_help(program):
    assert program().output == program("-h").output
    assert program().exit_code == 0


def test_version(program):
    assert program("--version").stdout == f"localspec {__version__}\n"


@pytest.mark.skipif(int(metadata.version("click").split(".")[1]) < 2, reason="older click writes choices differently")
def test_the_help_page_is_current():
    command = [sys.executable, "-m", "scripts.check.help", "--check"]
    check = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (check.returncode, check.stderr) == (0, "")


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["chatt"], "there is no command 'chatt'"),
        (["generate", "--foo"], "no such option"),
        (["generate", "-n", "many"], "'many' is not a valid integer"),
    ],
)
def test_wrong_usage_exits_2_with_a_sentence_and_where_to_look(program, args, sentence):
    result = program(*args)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("localspec: ")
    assert sentence in result.stderr
    assert "-h' for help." in result.stderr.splitlines()[-1]


def _fail(error):
    def call():
        raise error

    return call


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ModelNotFoundError("No file x.gguf."), 1, "localspec: No file x.gguf.\n"),
        (UsageError("n is 0; it must be at least 1."), 2, "localspec: n is 0; it must be at least 1.\n"),
        (KeyboardInterrupt(), 130, ""),
        (click.Abort(), 130, ""),
        (BrokenPipeError(32, "Broken pipe"), 1, ""),
        (
            OSError(28, "No space left on device"),
            1,
            "localspec: the system reports: No space left on device; check disk space and permissions.\n",
        ),
        (MemoryError(), 1, "localspec: there is not enough memory; try a smaller model or a smaller --ctx-size.\n"),
    ],
)
def test_each_kind_of_error_has_its_code_and_at_most_a_sentence(capsys, error, code, text):
    assert exit_code(_fail(error), RunState()) == code
    assert capsys.readouterr() == ("", text)


def test_a_fault_of_ours_asks_for_debug_and_shows_no_traceback(capsys):
    assert exit_code(_fail(RuntimeError("odd\nthing")), RunState()) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "RuntimeError: odd thing" in err
    assert "--debug" in err


@pytest.mark.parametrize("args", [["--debug", "generate", "-p", "x"], ["generate", "-p", "x", "--debug"]])
def test_debug_before_or_after_the_command_shows_the_traceback(program, monkeypatch, args):
    monkeypatch.setattr("localspec.load", _raising(ModelNotFoundError("No such model.")))
    result = program(*args)
    assert result.exit_code == 1
    assert "Traceback (most recent call last)" in result.stderr
    assert result.stderr.endswith("No such model.\n")
    assert "Traceback" not in program("generate", "-p", "x").stderr


def _raising(error):
    def load(*_, **__):
        raise error

    return load


@pytest.mark.skipif(os.name == "nt", reason="pipes break differently there")
def test_a_reader_that_leaves_gets_no_complaint():
    writer = subprocess.Popen(
        [sys.executable, "-m", "localspec", "generate", "-h"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    writer.stdout.close()
    with writer.stderr:
        assert writer.stderr.read() == b""
    writer.wait(10)


def test_python_dash_m_is_the_same_program():
    result = subprocess.run(
        [sys.executable, "-m", "localspec", "--version"], capture_output=True, text=True, check=True
    )
    assert result.stdout == f"localspec {__version__}\n"


SLOW = """
import os, signal, sys, time
import localspec
from tests.helpers.fake_engine import FakeEngine, Reply

def load(*_, progress, **__):
    for step in range({loading}):
        print("loading", file=sys.stderr, flush=True)
        try:
            progress(0.1)
            time.sleep(0.05)
        except KeyboardInterrupt:
            pass  # as in a ctypes callback, where it is lost
    return FakeEngine([Reply("word " * 400, before_word=lambda n: time.sleep(0.02))])

localspec.load = load
from localspec.cli import cli
cli(["generate", "-p", "x"])
"""


@pytest.mark.skipif(os.name == "nt", reason="signals differ there")
@pytest.mark.parametrize("loading", [0, 400])
def test_ctrl_c_ends_a_load_or_an_answer_with_130(loading):
    code = SLOW.format(loading=loading)
    run = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
    (run.stderr if loading else run.stdout).read(4)
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=20)
    assert run.returncode == 130
    assert b"Traceback" not in err
    assert out[-1:] == (b"" if loading else b"\n")
