"""Random command lines and files: each must end in an answer or one clear sentence, with an exit code of the contract.

    python -m scripts.check.fuzz_command_line --count 5000 --seed 0

Flags are those of the commands; values are allowed ones, or of any kind. Answers come from a scripted engine, and
nothing connects. A failure is an exit code other than 0, 1, 2 and 130, a traceback, a message that blames localspec, or
an error without a message. Commands that convert, measure or serve are left out.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from random import Random

import click
from click.testing import CliRunner, Result

import localspec
from localspec.cli import COMMANDS, cli
from tests.helpers.fake_engine import FakeEngine

LEFT_OUT = ("convert", "quantize", "trim-draft", "imatrix", "bench", "tune", "doctor", "serve")
FILES = ("messages.json", "prompts.jsonl", "tools.json", "rules.gbnf", "text.txt")
VALUES = (
    "", "tiny", "none", "-1", "0", "1", "99999999999999999999", "1e9", "nan", "-inf", "0.5", "a/b", "a/b:Q4_0", "../..",
    "/", "absent.gguf", "{", '{"type":"object"}', "é", "\udce9", "a\nb", "--", "-", "15043-inf", "all", " ", "%s",
    "null", "=", ".", "hf.co/a/b", "temp", "get", "set", "unset", "path", "a" * 5000, *FILES,
)  # fmt: skip
CONTENTS = (
    b"", b"[]", b"{}", b"[1]", b"null", b"\xff\xfe", b"[" * 5000, b"[NaN]", b'{"type":"objekt"}', b'root ::= "a"',
    b"x ::= y",
    b'[{"role":"user","content":"x"}]', b'[{"role":"user","content":[{"type":"text","text":"x"}]}]',
    b'[{"role":"user","content":"\\ud800"}]', b'{"messages":[{"role":"assistant","content":"x"}]}',
    b'[{"role":"tool","content":"x"}]', b'{"id":1e999,"messages":[]}', b'{"id":true,"messages":3}',
    b'{"id":1,"messages":[{"role":"user","content":"x"}]}\n{"id":2,"messages":[{"role":"user","content":"y"}],"grammar":1}',
    b'[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}]',
)  # fmt: skip
SETTINGS = (b"", b"temp = 1\n", b"temp = \n", b"x = 1\n", b"[a]\n", b"top-k = -5\n", b"seed = 1.5", b"\xff")
INPUTS = (
    b"", b"hi\n", b"\xff\n", b"/help\n/stats\n/tint\n/think on\n/draft off\n",
    b"/save s.json\n/load s.json\n/result y\n/exit\n",
    b"/load text.txt\n/trim -1\n/trim x\n/ \n//\n/etc/hosts\n", b"y\n", b"q\n", b"1\n1\n1\n", b"a" * 100_000,
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random, codes, failures = Random(options.seed), Counter[int](), 0
    localspec.load = lambda *_, **__: FakeEngine()  # type: ignore[assignment, return-value]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.environ.update(LOCALSPEC_CONFIG="config.toml", LOCALSPEC_DATA="data", HF_HOME="hf", HF_HUB_OFFLINE="1")
        os.environ.update(LMSTUDIO_HOME="lm", LLAMA_CACHE="llama", OLLAMA_MODELS="ollama")
        for _ in range(options.count):
            words = command_line(random)
            done = CliRunner().invoke(cli, words, input=random.choice(INPUTS))
            codes[done.exit_code] += 1
            if fault := fault_of(done):
                failures += 1
                print(f"{fault}: {[word[:60] for word in words]}: {done.stderr[-300:]}")
        os.chdir("/")
    print(f"{options.count} command lines, exit codes {dict(sorted(codes.items()))}, {failures} failures")
    sys.exit(failures > 0)


def command_line(random: Random) -> list[str]:
    """The words of a command, and new content for the files that it may name."""
    for name in FILES:
        Path(name).write_bytes(random.choice(CONTENTS))
    if random.random() < 0.1:
        Path("config.toml").write_bytes(random.choice(SETTINGS))
    name = random.choice([name for name in COMMANDS if name not in LEFT_OUT])
    command = cli.get_command(click.Context(cli, info_name="localspec", **cli.context_settings), name)
    assert command is not None
    flags = [one for one in command.params if isinstance(one, click.Option) and "--debug" not in one.opts]
    words = [name]
    for option in random.choices(flags, k=random.randrange(5) if flags else 0):
        words.append(random.choice(option.opts))
        if not option.is_flag:
            words.append(value(option, random) if random.random() < 0.6 else random.choice(VALUES))
    words += random.choices(VALUES, k=random.choice((0, 0, 1, 1, 2, 3)))
    return [*words, "-p", "Hi"] if name == "generate" and random.random() < 0.7 else words


def value(option: click.Option, random: Random) -> str:
    """A value of the option's type."""
    if isinstance(option.type, click.Choice):
        return str(random.choice(option.type.choices))
    if option.metavar in ("FILE", "FILE|JSON"):
        return random.choice(FILES)
    return random.choice(("tiny", "Hi there") if isinstance(option.type, click.types.StringParamType) else ("1", "5"))


def fault_of(done: Result) -> str | None:
    """The promise that a run breaks, if any. A failed chat has told of each line where it failed."""
    if done.exit_code not in (0, 1, 2, 130):
        return f"exit code {done.exit_code}"
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        return repr(done.exception)
    if "Traceback" in done.stderr or "error in localspec itself" in done.stderr:
        return "a fault of ours"
    return "no message" if done.exit_code in (1, 2) and not done.stderr.strip() else None


if __name__ == "__main__":
    main()
