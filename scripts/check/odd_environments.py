#!/usr/bin/env python3
"""Runs the commands under odd environments: each must end in an answer or one clear sentence.

    python -m scripts.check.odd_environments [--only PATTERN]

Prints a table of exit codes, one row an environment. A fault is a traceback, a message that blames localspec, an error
without a message, a signal, a time-out, or another code than in a usual environment where nothing hinders the command.
Needs Linux; what the system does not allow (mounts need root, the clock needs faketime) is left out and named. Exits 1
if there is a fault.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

GENERATE = ("generate", "-m", "tiny", "-t", "1", "-n", "8", "--temp", "0")
COMMANDS = {
    "help": ("-h",),
    "answer": (*GENERATE, "-p", "Grüß Gott"),
    "stats": (*GENERATE, "-p", "Hi", "--stats", "--json"),
    "lines": (*GENERATE, "--jsonl", "prompts.jsonl"),
    "piped": ("chat", "-m", "tiny", "-t", "1", "-n", "8"),
    "first": ("chat",),
    "set": ("config", "set", "temp", "0.5"),
    "config": ("config",),
    "list": ("list",),
    "pull": ("pull", "someone/something"),
    "rm": ("rm", "someone/something", "--yes"),
    "inspect": ("inspect", "tiny"),
    "devices": ("devices",),
    "doctor": ("doctor", "-m", "tiny", "-t", "1"),
    "shell": ("completion", "bash"),
    "quantize": ("quantize", "absent.gguf", "new.gguf", "--type", "q4_0"),
    "wrong": ("generate", "--foo"),
}
#: Commands that write, and may fail where nothing can be written.
WRITING = ("set",)


@dataclass(frozen=True)
class Environment:
    """A script of the shell in which ``"$@"`` is the command; ``hinders``: commands that may fail in it."""

    script: str = '"$@"'
    variables: dict[str, str] = field(default_factory=dict)
    hinders: tuple[str, ...] = ()
    needs: str = ""


def mounted(options: str) -> str:
    """A script with a file system of its own over the home folder, which is full where it can be written."""
    return f'mount -t tmpfs -o {options} none "$HOME"; cat /dev/zero >"$HOME/filler" 2>/dev/null; "$@"'


C_LOCALE = {"LC_ALL": "POSIX", "LANG": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
IN_MOUNTS = "unshare --mount true"
ENVIRONMENTS = {
    "usual": Environment(),
    "no input": Environment('"$@" <&-'),
    "no output": Environment('"$@" >&-'),
    "no error stream": Environment('"$@" 2>&-'),
    "no streams": Environment('"$@" <&- >&- 2>&-'),
    "full output": Environment('"$@" >/dev/full', hinders=tuple(COMMANDS)),
    "full error stream": Environment('"$@" 2>/dev/full'),
    "reader gone": Environment('"$@" | true', hinders=tuple(COMMANDS)),
    "C locale": Environment(variables=C_LOCALE),
    "unknown locale": Environment(variables={"LC_ALL": "xx_YY.UTF-8"}),
    "ASCII": Environment(variables={"PYTHONIOENCODING": "ascii"}),
    "UTF-16": Environment(variables={"PYTHONIOENCODING": "utf-16"}),
    "20 columns": Environment('script -qec "stty cols 20; $CALL" /dev/null', {}, ("first",), "script --version"),
    "dumb terminal": Environment('script -qec "$CALL" /dev/null', {"TERM": "dumb"}, ("first",), "script --version"),
    "no variables": Environment('env -i "$@"'),
    "no home": Environment('unset HOME; "$@"'),
    "home is absent": Environment(variables={"HOME": "/proc/absent"}, hinders=("set",)),
    "home is a file": Environment(variables={"HOME": "/dev/null"}, hinders=("set",)),
    "relative home": Environment(variables={"HOME": "x/y"}),
    "read-only home": Environment(mounted("ro"), hinders=("set",), needs=IN_MOUNTS),
    "full home": Environment(mounted("size=64k"), hinders=("set",), needs=IN_MOUNTS),
    "read-only folder": Environment(
        'mount -t tmpfs none "$PWD"; cd "$PWD"; cp "$HOME"/../*.jsonl .; mount -o remount,ro "$PWD"; "$@"',
        hinders=("quantize",),
        needs=IN_MOUNTS,
    ),
    "no room to unpack": Environment('mount -t tmpfs -o ro none /tmp; "$@"', hinders=WRITING, needs=IN_MOUNTS),
    "folder removed": Environment('mkdir gone; cd gone; rmdir ../gone; "$@"', hinders=("lines",)),
    "clock set back": Environment('faketime "1971-01-01 00:00:00" "$@"', needs="faketime now true"),
    "clock set ahead": Environment('faketime "2199-12-31 23:59:59" "$@"', needs="faketime now true"),
    "unknown time zone": Environment(variables={"TZ": "Nowhere/Land"}),
    "no colours": Environment(variables={"NO_COLOR": "", "FORCE_COLOR": "", "COLUMNS": "nonsense", "LINES": "-1"}),
    "few files": Environment('ulimit -n 24; "$@"'),
    "no doc strings": Environment(variables={"PYTHONOPTIMIZE": "2"}),
    "no byte code": Environment(variables={"PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}),
    "no search path": Environment(variables={"PATH": ""}),
    "interrupts ignored": Environment("trap '' INT HUP PIPE; \"$@\""),
    "home of another": Environment(
        'chmod 755 "$PWD/.."; setpriv --reuid 65534 --regid 65534 --clear-groups "$@"',
        hinders=WRITING,
        needs="setpriv --reuid 65534 --regid 65534 --clear-groups true",
    ),
}
BLAMES = ("Traceback", "error in localspec itself", "Exception ignored", "Fatal Python")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="pattern of the names of environments")
    only = parser.parse_args().only
    faults, usual = list[str](), dict[str, int]()
    print(f"{'':20}" + "".join(f"{name[:8]:>9}" for name in COMMANDS))
    for name, environment in ENVIRONMENTS.items():
        if name != "usual" and not re.search(only, name):
            continue
        if (
            environment.needs
            and subprocess.run(environment.needs, shell=True, capture_output=True, check=False).returncode
        ):
            print(f"{name:20} left out: `{environment.needs}` fails here")
            continue
        codes = []
        for command, words in COMMANDS.items():
            code, fault = outcome(environment, words)
            expected = usual.setdefault(command, code)
            if not fault and code != expected and command not in environment.hinders:
                fault = f"code {code} in place of {expected}"
            codes.append(f"{code}{'!' if fault else ''}")
            if fault:
                faults.append(f"{name}, {' '.join(words)}: {fault}")
        print(f"{name:20}" + "".join(f"{code:>9}" for code in codes), flush=True)
    print("\n".join(["", *faults, f"{len(faults)} faults"]))
    sys.exit(bool(faults))


def outcome(environment: Environment, words: tuple[str, ...]) -> tuple[int, str]:
    """Exit code of a command in a fresh folder, and its fault if it has one."""
    call = [sys.executable, "-m", "localspec", *words]
    with tempfile.TemporaryDirectory(prefix="odd") as folder:
        place, home = Path(folder) / "work", Path(folder) / "home"
        place.mkdir()
        home.mkdir(mode=0o700)
        for where in (Path(folder), place):
            (where / "prompts.jsonl").write_text('{"id": 1, "messages": [{"role": "user", "content": "Grüß"}]}\n')
        variables = {key: value for key, value in os.environ.items() if not key.startswith(("LOCALSPEC_", "XDG_"))}
        variables |= {"HOME": str(home), "HF_HUB_OFFLINE": "1", "CALL": subprocess.list2cmdline(call)}
        variables["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
        variables |= environment.variables
        shell = ["sh", "-c", environment.script, "sh", *call]
        if "mount" in environment.needs:
            shell = ["unshare", "--mount", *shell]
        try:
            done = subprocess.run(
                [shutil.which(shell[0]) or shell[0], *shell[1:]],
                cwd=place, env=variables, input=b"Hello\n/exit\n", capture_output=True, check=False, timeout=300,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return 124, "no end after 300 s"
    text = (done.stdout + done.stderr).replace(b"\0", b"").decode(errors="replace")  # UTF-16
    blame = next((line for line in text.splitlines() if any(word in line for word in BLAMES)), "")
    if blame:
        return done.returncode, blame
    if done.returncode not in (0, 1, 2, 130):
        return done.returncode, f"ended with {done.returncode}: {text[-200:]}"
    closed = "2>" in environment.script
    if done.returncode in (1, 2) and not closed and "localspec" not in text:
        return done.returncode, f"an error without a message: {text[-200:]!r}"
    return done.returncode, ""


if __name__ == "__main__":
    main()
