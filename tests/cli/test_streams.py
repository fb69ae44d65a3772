"""Laws of the standard streams: closed, full, or of another encoding."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from localspec.cli.input.text import argument
from localspec.errors import InputError

PROGRAM = f'"{sys.executable}" -m localspec'
#: The locale of C without Python's own remedies for it.
PLAIN_C = {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}

pytestmark = pytest.mark.skipif(os.name == "nt", reason="shells differ there")


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """Runs a line of the shell; the settings are a file of its own."""
    monkeypatch.setenv("LOCALSPEC_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("LOCALSPEC_DATA", str(tmp_path / "data"))

    def run(line, **environment):
        return subprocess.run(
            ["sh", "-c", line], capture_output=True, check=False, env={**os.environ, **environment}, timeout=120
        )

    return run


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_the_null_device(shell, tmp_path, closed):
    """Files that are opened later do not get its number, and with it what is printed."""
    done = shell(f"{PROGRAM} config set temp 0.5 {closed}")
    assert (done.returncode, done.stdout, b"Traceback" in done.stderr) == (0, b"", False)
    assert (tmp_path / "config.toml").read_text().splitlines()[1:] == ["temp = 0.5"]
    assert shell(f"{PROGRAM} config {closed}").returncode == 0
    assert shell(f"{PROGRAM} generate --foo {closed}").returncode == 2


def test_an_answer_survives_closed_streams(shell):
    line = f"{PROGRAM} generate -m tiny -t 1 -n 2 --temp 0 --stats -p Hi"
    assert (shell(f"{line} <&- 2>&-").stdout, shell(f"{line} <&- >&-").returncode) == (b"Hello!\n", 0)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full device here")
def test_a_full_disk_is_one_sentence(shell):
    done = shell(f"{PROGRAM} -h > /dev/full")
    assert done.returncode == 1
    assert done.stderr.startswith(b"localspec: the system reports: No space left on device")
    assert done.stderr.count(b"\n") == 1
    assert shell(f"{PROGRAM} generate --foo 2> /dev/full").returncode == 2
    assert shell(f"{PROGRAM} config set temp 0.5 2> /dev/full").returncode == 0


def test_output_that_is_no_terminal_is_utf8(shell, tmp_path):
    (tmp_path / "config.toml").write_text('system = "Grüß 日本"\n', encoding="utf-8")
    assert shell(f"{PROGRAM} config get system", **PLAIN_C).stdout == "Grüß 日本\n".encode()
    assert shell(f"{PROGRAM} config get system", PYTHONIOENCODING="latin-1").stdout == b"Gr\xfc\xdf ??\n"


def test_an_argument_is_utf8_whatever_the_locale(shell, tmp_path):
    done = shell(f"{PROGRAM} config set system 'Grüß 日本'", **PLAIN_C)
    assert done.returncode == 0, done.stderr
    assert 'system = "Grüß 日本"' in (tmp_path / "config.toml").read_text(encoding="utf-8")


def test_bytes_of_an_argument_are_read_as_utf8():
    assert argument(os.fsdecode("Grüß".encode()), "x") == "Grüß"
    assert argument("".join(f"{chr(0xDC00 + byte)}" for byte in "ü".encode()), "x") == "ü"
    with pytest.raises(InputError, match=r"x is not valid UTF-8 at byte 1 \(0xe9\)"):
        argument("a\udce9", "x")


def test_a_settings_file_that_cannot_be_there_is_none(shell, tmp_path):
    (tmp_path / "file").touch()
    done = shell(f"{PROGRAM} config get temp", LOCALSPEC_CONFIG=str(Path(tmp_path / "file" / "config.toml")))
    assert (done.stdout, done.stderr) == (b"0.8\n", b"")
