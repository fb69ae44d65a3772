"""Show the screens of a first run, a pull, a chat and the settings, typed into a real terminal (tmux).

    python -m scripts.check.screens

Prints every screen at 80 and 40 columns, with and without colour. The Hub is the one of the tests, on this machine; its
"Gemma 4" files hold the built-in pair. ``--only 40 plain`` shows fewer.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

from localspec.models.recommended import RECOMMENDED  # noqa: E402
from localspec.models.resolve import TINY_ASSISTANT, TINY_TARGET  # noqa: E402
from tests.helpers.hub_server import serving  # noqa: E402

_SOCKET = "localspec-screens"
_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Step:
    """Keys to type (none: only wait), what the screen must then show, and a title if it is to be printed."""

    keys: str
    until: str
    title: str | None = None


FIRST_RUN = (
    Step("localspec chat --seed 1 -n 20\n", "Which one", "the first run"),
    Step("9\n", "Type 1", None),
    Step("\n", "Make it your default", None),
    Step("\n", r"\d+%", "a pull goes on"),
    Step("", r"^>", "it ends in a chat"),
    Step("Tell me a story about a cat.\n", r"tok/s", "an answer"),
    Step("\x04", r"^\$$", None),
    Step("clear; localspec chat --seed 1\n", r"^>", "the second run"),
    Step("\x04", r"^\$$", None),
    Step("clear; localspec config\n", r"^\$$", "the settings"),
    Step("clear; localspec list\n", r"^\$$", "what is on disk"),
    Step("clear; localspec chat -m gemma-4-31b --offline\n", r"^\$$", "offline, not on disk"),
    Step("clear; echo Hi | LOCALSPEC_CONFIG=/none localspec generate -n 5\n", r"^\$$", "in a pipe"),
    Step("clear; localspec doctor\n", r"^\$$", "doctor"),
)


def _tmux(*arguments: str) -> str:
    return subprocess.run(["tmux", "-L", _SOCKET, *arguments], capture_output=True, text=True, check=True).stdout


@contextmanager
def terminal(width: int, colour: bool, environment: dict[str, str]) -> Iterator[None]:
    """A shell of that width with this program on its path, in an empty home."""
    home = Path(tempfile.mkdtemp(prefix="localspec-screens-"))
    program = home / "bin" / "localspec"
    program.parent.mkdir()
    python = f"{shlex.quote(sys.executable)} -m localspec"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {python} "$@"\n')
    program.chmod(0o755)
    kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "OMP_NUM_THREADS") if name in os.environ}
    settings = {**kept, **environment, "HOME": str(home), "PATH": f"{program.parent}:{os.environ['PATH']}", "PS1": "$ "}
    if not colour:
        settings["NO_COLOR"] = "1"
    shell = shlex.join(["env", "-i", *(f"{k}={v}" for k, v in settings.items()), "bash", "--norc", "--noprofile"])
    # tmux says what terminal it is; env -i would take that away as well.
    shell = shell.replace("env -i", "env -i TERM=$TERM", 1)
    try:
        _tmux("-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y", "24", "-c", str(home), shell)
        yield
    finally:
        subprocess.run(["tmux", "-L", _SOCKET, "kill-server"], capture_output=True, check=False)
        shutil.rmtree(home, ignore_errors=True)


def screen(colour: bool = False) -> str:
    """Return the screen's text; with ``colour`` its escape sequences, too."""
    return _tmux("capture-pane", "-p", *(["-e"] if colour else [])).rstrip()


def play(steps: Sequence[Step], colour: bool, label: str) -> None:
    """Type the steps; print the screens that have a title."""
    wait_for(r"^\$$", "")
    for step in steps:
        before = screen()
        if step.keys:
            _tmux("send-keys", "-l", step.keys)
        wait_for(step.until, before if step.keys else "")
        if step.title:
            print(f"\n===== {step.title} ({label}) =====")
            print(screen(colour))


def wait_for(pattern: str, before: str) -> None:
    """Until the screen, changed from ``before``, shows ``pattern`` twice with nothing else happening in between."""
    end = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < end:
        time.sleep(0.3)
        now = screen()
        if now != before and re.search(pattern, now, re.MULTILINE):
            return
    raise SystemExit(f"the screen never showed {pattern!r}; it shows:\n{screen()}")


def hub_folder(folder: Path) -> Path:
    """A Hub's repositories: the recommended ones, with the built-in pair in their files."""
    for pair in RECOMMENDED:
        for name, source in ((pair.target_file, TINY_TARGET), (pair.drafter_file, TINY_ASSISTANT)):
            if pair.repo and name:
                place = folder / pair.repo / name
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, place)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], help="80, 40, colour, plain")
    only = set(parser.parse_args().only)
    with tempfile.TemporaryDirectory() as folder, serving(hub_folder(Path(folder)), rate=2e6) as hub:
        for width in (80, 40):
            for colour in (True, False):
                kinds = {str(width), "colour" if colour else "plain"}
                if only <= kinds:
                    with terminal(width, colour, {"HF_ENDPOINT": hub.endpoint}):
                        play(FIRST_RUN, colour, f"{width} columns, {'colour' if colour else 'plain'}")


if __name__ == "__main__":
    main()
