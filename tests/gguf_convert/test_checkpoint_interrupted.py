"""An interrupted conversion leaves no file under the final name, and the next one clears up after it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

import gguf_convert
from gguf_convert.output import files
from gguf_convert.output.files import replaced_when_done, work_folder
from localspec.errors import ConvertError
from tests.helpers import tiny_checkpoint as tiny

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and locks of POSIX")


def start(folder: Path, kind: str = "Q8_0") -> subprocess.Popen[bytes]:
    """A conversion in a process of its own, slowed down so that a signal finds it at work."""
    code = (
        "import sys, time, gguf_convert\n"
        "def slow(done, total):\n    time.sleep(0.002)\n"
        "print('begun', flush=True)\n"
        "gguf_convert.convert(sys.argv[1], sys.argv[2], sys.argv[3], progress=slow, force=True)\n"
    )
    line = [sys.executable, "-c", code, str(folder / "in"), str(folder / "out.gguf"), kind]
    child = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert child.stdout is not None
    child.stdout.readline()
    return child


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def ended(child: subprocess.Popen[bytes]) -> int:
    code = child.wait()
    assert child.stdout is not None
    child.stdout.close()
    return code


@pytest.mark.parametrize("number", ["SIGKILL", "SIGINT", "SIGTERM"])
def test_no_moment_leaves_half_a_file(tmp_path: Path, number: str) -> None:
    """For any signal at any moment; the next conversion succeeds and leaves only its result."""
    tiny.write(tmp_path / "in")
    gguf_convert.convert(tmp_path / "in", tmp_path / "whole.gguf")
    whole = (tmp_path / "whole.gguf").read_bytes()
    for wait in (0.02, *(Random(number).uniform(0, 0.25) for _ in range(3))):
        child = start(tmp_path)
        time.sleep(wait)
        child.send_signal(signal.Signals[number])
        ended(child)
        if (tmp_path / "out.gguf").exists():
            assert (tmp_path / "out.gguf").read_bytes() == whole
    gguf_convert.convert(tmp_path / "in", tmp_path / "out.gguf", force=True)
    assert names(tmp_path) == ["in", "out.gguf", "whole.gguf"]
    assert (tmp_path / "out.gguf").read_bytes() == whole


def test_two_at_once_do_not_meet(tmp_path: Path) -> None:
    """Each writes its own; the later one stays."""
    tiny.write(tmp_path / "in")
    children = [start(tmp_path, kind) for kind in ("Q8_0", "F16", "Q8_0")]
    assert [ended(child) for child in children] == [0, 0, 0]
    gguf_convert.check(tmp_path / "in", tmp_path / "out.gguf")
    assert names(tmp_path) == ["in", "out.gguf"]


def test_work_of_a_living_process_is_left_alone(tmp_path: Path) -> None:
    """Also of this one, and that of other files."""
    out, other = tmp_path / "out.gguf", tmp_path / "out.gguf.gguf"
    with work_folder(out) as first, work_folder(other) as second:
        (first / "x").write_bytes(b"x")
        with replaced_when_done(out) as partial:
            partial.write_bytes(b"y")
        assert (first / "x").exists()
        assert second.exists()
    assert names(tmp_path) == ["out.gguf"]


def test_process_killed_before_it_holds_its_folder_leaves_nothing(tmp_path: Path) -> None:
    """Its folder is empty, and nobody's."""
    (tmp_path / ".out.gguf.abandoned.partial").mkdir()
    with work_folder(tmp_path / "out.gguf"):
        pass
    assert names(tmp_path) == []


def test_folder_taken_away_before_it_is_locked_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a process that clears up at the same time."""
    take, taken = files._take, []

    def late(folder: Path) -> int | None:
        taken.append(folder)
        if len(taken) == 1:
            folder.rmdir()
        return take(folder)

    monkeypatch.setattr(files, "_take", late)
    with work_folder(tmp_path / "out.gguf") as folder:
        assert folder.is_dir()
        assert len(taken) == 2
    assert names(tmp_path) == []


@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="root may write anywhere")
def test_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    tiny.write(tmp_path / "in")
    (tmp_path / "out").mkdir(mode=0o555)
    with pytest.raises(ConvertError, match="Cannot write"):
        gguf_convert.convert(tmp_path / "in", tmp_path / "out" / "out.gguf")
