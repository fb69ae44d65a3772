"""Laws of shell completion: what is offered, without a load of anything heavy, and in real shells."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from localspec.cli import COMMANDS
from localspec.cli.terminal.bash_completion import VARIABLE
from localspec.models import store
from localspec.models.recommended import RECOMMENDED
from tests.helpers.paths import ROOT

PAIR = next(pair for pair in RECOMMENDED if pair.title == "Gemma 4 E2B")
TARGET = "user/repo:Q4_K_M"
#: A drafter goes by its file.
DRAFTER = "user/assistant/mtp.gguf"


@pytest.fixture
def complete(program, monkeypatch, tmp_path):
    """What Bash is offered for a line, as ``kind,value``; a target and a drafter are on disk."""
    monkeypatch.setenv("LOCALSPEC_DATA", str(tmp_path / "data"))
    monkeypatch.setenv(VARIABLE, "bash_complete")
    for repo, quant, role in (("user/repo", "Q4_K_M", "model"), ("user/assistant", None, "drafter")):
        path = tmp_path / role
        path.write_text("x")
        store.add(store.StoredModel(repo, quant, (store.StoredFile("mtp.gguf", path, 1, ""),), role))

    def offered(line: str) -> list[str]:
        monkeypatch.setenv("COMP_LINE", line)
        result = program()
        assert (result.exit_code, result.stderr) == (0, "")
        return result.stdout.splitlines()

    return offered


def test_commands(complete):
    assert {f"plain,{name}" for name in COMMANDS} == set(complete("localspec "))
    assert complete("localspec ch") == ["plain,chat"]


def test_flags(complete):
    assert complete("localspec chat --temp") == ["plain,--temp"]
    assert "plain,--exactness" in complete("localspec generate --")
    assert complete("localspec chat --exactness p") == ["plain,prefer"]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("localspec chat -m ", ["file,", "plain,tiny", f"plain,{TARGET}"]),
        ("localspec chat --model=t", ["file,t", "plain,tiny"]),
        ("localspec chat -m USER", ["file,USER", f"plain,{TARGET}"]),
        ("localspec generate -p 'a b' -m user/repo:Q", ["file,Q", "plain,Q4_K_M"]),
        ("localspec chat -d n", ["file,n", "plain,none", "plain,ngram"]),
        ("localspec chat -d user/a", ["file,user/a", f"plain,{DRAFTER}"]),
        ("localspec chat -f ./", ["file,./"]),
        ("localspec chat --chat-template-file ./", ["file,./"]),
        ("localspec trim-draft t", ["file,t", "plain,tiny"]),
        ("localspec trim-draft tiny ./", ["file,./"]),
        ("localspec imatrix user", ["file,user", f"plain,{TARGET}"]),
        ("localspec rm user", [f"plain,{DRAFTER}", f"plain,{TARGET}"]),
        ("localspec pull gemma-4-e2", [f"plain,{PAIR.target}"]),
        ("localspec config u", ["plain,unset"]),
        ("localspec config get te", ["plain,temp"]),
        ("localspec completion z", ["plain,zsh"]),
        ("localspec chat --device ", [""]),
        ("localspec nothing --ver", ["plain,--version"]),
    ],
)
def test_values(complete, line, offered):
    assert sorted(complete(line)) == sorted(offered)


def test_a_recommended_pair_on_disk_is_offered_by_its_short_name(complete, tmp_path):
    path = tmp_path / "e2b"
    path.write_text("x")
    store.add(store.StoredModel(PAIR.repo, "UD-Q4_K_XL", (store.StoredFile("f", path, 1, ""),)))
    assert complete("localspec chat -m gemma")[1:] == [f"plain,{PAIR.target}"]


def test_settings_are_not_read(complete, monkeypatch, tmp_path):
    (tmp_path / "damaged.toml").write_text("temp = \n")
    monkeypatch.setenv("LOCALSPEC_CONFIG", str(tmp_path / "damaged.toml"))
    assert complete("localspec chat -m t") == ["file,t", "plain,tiny"]


def test_completing_is_light():
    code = "import sys, atexit; atexit.register(lambda: print(*sys.modules)); from localspec.cli import main; main()"
    environment = {**os.environ, VARIABLE: "bash_complete", "COMP_LINE": "localspec chat -m "}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    loaded = set(done.stdout.split())
    assert "plain,tiny" in loaded
    assert not loaded & {"numpy", "llama_cpp", "huggingface_hub", "prompt_toolkit", "jinja2", "tomllib", "gguf"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_that_the_shell_takes(program, tmp_path, shell):
    script = program("completion", shell).stdout
    assert VARIABLE in script
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    file = tmp_path / "script"
    file.write_text(script)
    subprocess.run([shell, "-n", str(file)], check=True, capture_output=True)


def test_another_shell_is_refused(program):
    assert program("completion", "tcsh").exit_code == 2


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no Bash")
@pytest.mark.parametrize(
    ("line", "reply"), [("localspec ch", "chat"), ("localspec chat -m ti", "tiny"), ("localspec config set temp ", "")]
)
def test_bash_fills_its_replies(tmp_path, line, reply):
    program = tmp_path / "localspec"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m localspec "$@"\n')
    program.chmod(0o755)
    code = f"""
eval "$(localspec completion bash)"
COMP_LINE="{line}"; COMP_POINT=${{#COMP_LINE}}
_localspec_completion localspec
printf '%s,' "${{COMPREPLY[@]}}"
"""
    path = f"{tmp_path}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert (done.stdout, done.stderr) == (f"{reply},", "")
