#!/usr/bin/env python3
"""Run every shell line of the README and of the pages in docs/, and print the lines that fail.

    python -m scripts.check.docs [--page docs/pull.md] [--pip]

A page's lines run one after the other in a folder where everything that they name is there: models are the built-in
pair under other names, and the Hub is a server on this machine (``tests/helpers/hub_server.py``). Caches and settings
are the folder's own. Lines of pip are tried out without installing anything, with ``--pip`` only, since they need an
index; the scripts that set localspec up and servers are not run. Takes some minutes; exits 1 where a line fails.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

from tests.helpers import pages  # noqa: E402
from tests.helpers.hub_server import serving  # noqa: E402

_PROGRAMS = {
    "localspec": 'exec "{python}" -m localspec "$@"',
    "pip": 'command=$1; shift; exec "{python}" -m pip "$command" --no-deps $([ "$command" = wheel ] || echo --dry-run) '
    '--retries 0 --timeout 5 "$@"',
}
_SET_UP = ("scripts/demo", "scripts/test")


def environment(folder: Path, endpoint: str) -> dict[str, str]:
    """Our own commands first, and nothing of the user's."""
    programs = folder / "bin"
    programs.mkdir()
    for name, text in _PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/sh\n{text.format(python=sys.executable)}\n", encoding="utf-8")
        (programs / name).chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LOCALSPEC_", "HF_"))}
    return {
        **kept,
        "PATH": f"{programs}{os.pathsep}{kept['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(folder / "hub"),
        "LOCALSPEC_CACHE": str(folder / "cache"),
        "LOCALSPEC_CONFIG": str(folder / "config.toml"),
        "LOCALSPEC_DATA": str(folder / "data"),
        "XDG_DATA_HOME": str(folder / "data"),
        "LOCALSPEC_MAX_TOKENS": "32",
    }


def run(line: str, folder: Path, variables: Mapping[str, str]) -> bool:
    """Run a shell line; print its output if it fails. Return True if it succeeds."""
    commands = [call.words[1] for call in pages.of_localspec(line)]
    typed = pages.TYPED.get(commands[0], "") if commands else ""
    began = time.monotonic()
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", pages.smaller(line)],
        cwd=folder, env=variables, input=typed, text=True, capture_output=True, check=False,
    )  # fmt: skip
    print(f"  {'ok  ' if done.returncode == 0 else 'FAIL'} {time.monotonic() - began:5.1f} s  {line}", flush=True)
    if done.returncode:
        print("\n".join(f"       | {text}" for text in (done.stdout + done.stderr).splitlines()[-12:]))
    return done.returncode == 0


def check(page: str, endpoint: str, pip: bool) -> bool:
    """Run every line of a page. Return True if all succeed."""
    print(page)
    right = True
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "work"
        folder.mkdir()
        pages.furnish(folder)
        for name in ("pyproject.toml", "README.md", "LICENSE", "localspec", "gguf_convert"):  # for `pip install .`
            (folder / name).symlink_to(ROOT / name)
        variables = environment(Path(place), endpoint)
        for line in pages.lines(page):
            programs = [call.words[0] for call in pages.calls(line)]
            endless = any(call.words[1] == "serve" for call in pages.of_localspec(line))
            if programs[0] in _SET_UP or endless or ("pip" in programs and not pip):
                print(f"  left out      {line}")
            else:
                right &= run(line, folder, variables)
    return right


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", choices=pages.PAGES, action="append", help="default: all")
    parser.add_argument("--pip", action="store_true", help="try the lines of pip out, too")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pages.furnish_hub(Path(folder))
        with serving(Path(folder)) as hub:
            results = [check(page, hub.endpoint, args.pip) for page in args.page or pages.PAGES]
    sys.exit(not all(results))


if __name__ == "__main__":
    main()
