"""The output file is complete or absent, existing files are safe, and the command reports the result."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import gguf_convert
from gguf_convert.commands.convert import convert as command
from gguf_convert.recipes import file_type_name
from localspec.errors import ConvertError, UsageError
from tests.helpers import tiny_checkpoint as tiny


class Interrupt:
    """A progress callback that raises after some calls."""

    def __init__(self, error: BaseException, after: int) -> None:
        self.error, self.left = error, after

    def __call__(self, done: int, total: int) -> None:
        self.left -= 1
        if self.left == 0:
            raise self.error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("x"), MemoryError(), SystemExit(1)])
@pytest.mark.parametrize("after", [1, 20])
def test_an_interrupted_conversion_leaves_nothing(tmp_path: Path, error: BaseException, after: int) -> None:
    tiny.write(tmp_path / "in")
    with pytest.raises(type(error)):
        gguf_convert.convert(tmp_path / "in", tmp_path / "out.gguf", progress=Interrupt(error, after))
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_an_interrupted_replacement_keeps_the_old_file(tmp_path: Path) -> None:
    tiny.write(tmp_path / "in")
    (tmp_path / "out.gguf").write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        gguf_convert.convert(
            tmp_path / "in", tmp_path / "out.gguf", force=True, progress=Interrupt(KeyboardInterrupt(), 5)
        )
    assert (tmp_path / "out.gguf").read_bytes() == b"old"


def test_replaces_only_when_told(tmp_path: Path) -> None:
    tiny.write(tmp_path / "in")
    (tmp_path / "out.gguf").write_bytes(b"old")
    with pytest.raises(ConvertError, match=r"exists.*--force"):
        gguf_convert.convert(tmp_path / "in", tmp_path / "out.gguf")
    assert (tmp_path / "out.gguf").read_bytes() == b"old"
    report = gguf_convert.convert(tmp_path / "in", tmp_path / "out.gguf", force=True)
    assert (tmp_path / "out.gguf").stat().st_size == report.bytes


def test_progress_runs_to_the_end(tmp_path: Path) -> None:
    tiny.write(tmp_path / "in")
    calls: list[tuple[int, int]] = []
    gguf_convert.convert(tmp_path / "in", tmp_path / "out.gguf", progress=lambda *call: calls.append(call))
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert calls[-1][0] == calls[-1][1]


def test_refuses_when_the_disk_is_too_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 1000

    monkeypatch.setattr("gguf_convert.output.files.shutil.disk_usage", lambda _: Usage)
    tiny.write(tmp_path / "in")
    with pytest.raises(ConvertError, match="make room"):
        gguf_convert.convert(tmp_path / "in", tmp_path / "out.gguf")


@pytest.mark.parametrize(("out", "match"), [(".", "is a folder"), ("gone/out.gguf", "does not exist")])
def test_refuses_a_place_it_cannot_write(tmp_path: Path, out: str, match: str) -> None:
    tiny.write(tmp_path / "in")
    with pytest.raises(ConvertError, match=match):
        gguf_convert.convert(tmp_path / "in", tmp_path / out)


def test_types_in_any_case() -> None:
    assert [file_type_name(name.lower()) for name in gguf_convert.TYPES] == list(gguf_convert.TYPES)
    assert file_type_name("q4_k") == "Q4_K_M"
    with pytest.raises(UsageError, match=r"'Q5_L'.*F32, F16, BF16, Q8_0, Q6_K"):
        file_type_name("Q5_L")


def test_the_command_converts_and_checks(tmp_path: Path) -> None:
    tiny.write(tmp_path / "in")
    arguments = [str(tmp_path / "in"), "-o", str(tmp_path / "out.gguf"), "--type", "q4_0", "--check"]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert (result.exit_code, result.stdout) == (0, "")
    wrote, checked, loaded = result.stderr.splitlines()
    assert wrote.startswith(f"Wrote {tmp_path / 'out.gguf'} (gemma4, Q4_0, ")
    assert checked.startswith("Checked ")
    assert loaded == "llama.cpp loads and decodes it."


def run_module(*arguments: Any) -> subprocess.CompletedProcess[str]:
    command_line = [sys.executable, "-m", "gguf_convert", *map(str, arguments)]
    return subprocess.run(command_line, capture_output=True, text=True, check=False)


def test_the_module_reports_errors_in_one_sentence(tmp_path: Path) -> None:
    failed = run_module(tmp_path / "gone", "-o", tmp_path / "out.gguf")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.startswith(f"Error: {tmp_path / 'gone'} is not a checkpoint folder")
    assert failed.stderr.count("\n") == 1
    assert run_module(tmp_path).returncode == 2
    assert run_module(tmp_path, "-o", "x", "--type", "Q9").returncode == 2


def test_importing_the_command_loads_neither_numpy_nor_gguf() -> None:
    code = (
        "import sys, gguf_convert.commands.convert; print([m for m in ('numpy', 'gguf', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_converting_needs_no_torch(tmp_path: Path) -> None:
    tiny.write(tmp_path / "in")
    code = (
        "import sys, gguf_convert; gguf_convert.convert(*sys.argv[1:]);"
        "print([m for m in ('torch', 'transformers', 'tokenizers', 'safetensors') if m in sys.modules])"
    )
    line = [sys.executable, "-c", code, str(tmp_path / "in"), str(tmp_path / "out.gguf")]
    assert subprocess.run(line, capture_output=True, text=True, check=True).stdout.strip() == "[]"
