"""Laws of the libraries of llama.cpp that a user chooses with LLAMA_CPP_LIB_PATH: one copy of each is loaded."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from localspec.llama.binding import LIBRARIES, library_folder

#: Uses devices, the quantiser's functions, a model and a context; prints the files of llama.cpp in the process.
_USE = """
import json, sys
import numpy as np
import localspec
from localspec.llama import binding
from localspec.llama.imatrix import _Ggml
from localspec.llama.quantized_rows import quantize_rows
quantize_rows(np.ones((1, 32), np.float32), "Q8_0"), _Ggml()
with localspec.load("tiny", threads=1) as llm:
    text = llm.generate("Once", max_tokens=4, temperature=0).text
names = [line.split()[-1] for line in open("/proc/self/maps") if "llama" in line or "ggml" in line]
print(json.dumps({"files": [name for name in names if ".so" in name], "text": text, "build": binding.build_id(),
                  "devices": [device.name for device in binding.devices()]}))
"""


def python(*arguments: str, libraries: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Python in a process of its own, with other libraries."""
    chosen = {LIBRARIES: str(libraries)} if libraries else {}
    environment = {**os.environ, **chosen}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=60, check=False, env=environment
    )


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/maps")
def test_everything_runs_on_the_chosen_libraries(tmp_path: Path) -> None:
    """Else a GPU of the chosen build is not listed, and what asks for devices has not those that compute."""
    chosen = tmp_path / "lib"
    shutil.copytree(library_folder(), chosen)
    used, package = (python("-c", _USE, libraries=folder) for folder in (chosen, None))
    assert used.returncode == 0, used.stderr
    found, plain = json.loads(used.stdout), json.loads(package.stdout)
    assert found["files"]
    assert {Path(name).parent for name in found["files"]} == {chosen}
    assert {Path(name).parent for name in plain["files"]} == {library_folder()}
    assert (found["text"], found["devices"]) == (plain["text"], plain["devices"])
    assert found["build"] != plain["build"]  # what was measured with one build says nothing of another


@pytest.mark.parametrize(
    ("contents", "reason"), [(None, "not found"), (b"no library", "Failed to load"), (b"", "Failed to load")]
)
def test_folder_without_usable_libraries_is_an_error(tmp_path: Path, contents: bytes | None, reason: str) -> None:
    """One sentence that names the folder."""
    if contents is not None:
        (tmp_path / ("llama.dll" if sys.platform == "win32" else "libllama.so")).write_bytes(contents)
    done = python("-m", "localspec", "devices", libraries=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"localspec: llama.cpp cannot be loaded from the folder that {LIBRARIES} names")
    assert str(tmp_path) in done.stderr
    assert reason in done.stderr
    assert len(done.stderr.splitlines()) == 1
