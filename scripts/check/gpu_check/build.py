"""Find a build of llama.cpp that uses this machine's GPU, or make one: its libraries alone, for this architecture."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from time import monotonic
from typing import Any

from localspec.cli.doctor.hardware import nvidia_gpus

_DEVICES = """
import json
from dataclasses import asdict
from localspec.llama import binding
print(json.dumps({"devices": [asdict(one) for one in binding.devices()], "build": binding.build_id()}))
"""
_LIBRARIES = ("llama", "ggml", "ggml-base", "ggml-cpu")
#: Nothing but the libraries.
_OFF = ("CURL", "OPENSSL", "BUILD_COMMON", "BUILD_TOOLS", "BUILD_EXAMPLES", "BUILD_TESTS", "BUILD_SERVER", "BUILD_APP")
#: Places of the CUDA compiler that are on no PATH by default.
_NVCC = ("/usr/local/cuda/bin/nvcc", "/opt/cuda/bin/nvcc")


@dataclass
class Build:
    """A build of llama.cpp: variables to run it with, its devices, and how it was come by."""

    how: str
    environment: Mapping[str, str] = field(default_factory=dict)
    devices: list[dict[str, Any]] = field(default_factory=list)
    build: str = ""
    seconds: float = 0.0

    @property
    def has_gpu(self) -> bool:
        """True if a device is a GPU."""
        return any(device["kind"] in ("gpu", "igpu") for device in self.devices)


def look(how: str, environment: Mapping[str, str]) -> Build:
    """Ask a build for its devices, in a process of its own. Without any if it cannot be loaded."""
    done = subprocess.run(
        [sys.executable, "-c", _DEVICES],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return Build(f"{how}; it cannot be loaded: {done.stderr.strip().splitlines()[-1:]}", environment)
    found = json.loads(done.stdout.splitlines()[-1])
    return Build(how, environment, found["devices"], found["build"])


def find_or_make(folder: Path, source: Path | None, seconds: float) -> Build:
    """Return the installed build if it has a GPU, else an earlier one in ``folder``, else a new one.

    ``source``: folder or sdist of llama-cpp-python, or a folder of llama.cpp; None: the sdist is fetched. A build that
    is cut off after ``seconds`` goes on in the next run.
    """
    installed = look("installed", {})
    if installed.has_gpu:
        return installed
    libraries = {"LLAMA_CPP_LIB_PATH": str(folder / "build" / "bin")}
    if (folder / "complete").exists() and (earlier := look("built by an earlier run", libraries)).has_gpu:
        return earlier
    nvcc = shutil.which("nvcc") or next((path for path in _NVCC if Path(path).exists()), None)
    if sys.platform != "darwin" and not (nvidia_gpus() and nvcc):
        lacks = "its CUDA compiler (nvcc) was not found" if nvidia_gpus() else "there is no NVIDIA GPU to build for"
        installed.how += f"; {lacks}"
        return installed
    began = monotonic()
    reason = _make(folder, source, nvcc, seconds)
    if reason:
        installed.how += f"; the build failed: {reason}"
        return installed
    (folder / "complete").touch()
    made = look("built here", libraries)
    made.seconds = monotonic() - began
    return made


def _make(folder: Path, source: Path | None, nvcc: str | None, seconds: float) -> str:
    """Configure and compile. Returns the reason of a failure, or an empty text."""
    end = monotonic() + seconds
    folder.mkdir(parents=True, exist_ok=True)
    tree = _tree(folder, source)
    if tree is None:
        return "llama.cpp's source cannot be fetched; give it with --source"
    if shutil.which("cmake") is None:
        return "CMake is missing; install it (pip install cmake)"
    options = [f"-DLLAMA_{name}=OFF" for name in _OFF]
    if nvcc:
        options += ["-DGGML_CUDA=ON", "-DCMAKE_CUDA_ARCHITECTURES=native", f"-DCMAKE_CUDA_COMPILER={nvcc}"]
    options += shlex.split(os.environ.get("CMAKE_ARGS", ""))  # as pip's builds have them; the last of a name counts
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    configure = ["cmake", "-S", str(tree), "-B", str(folder / "build"), *generator, "-DCMAKE_BUILD_TYPE=Release"]
    compile_all = ["cmake", "--build", str(folder / "build"), "-j", str(os.cpu_count() or 2), "--target", *_LIBRARIES]
    with (folder / "build.log").open("wb") as log:
        for command in ([*configure, "-DBUILD_SHARED_LIBS=ON", *options], compile_all):
            try:
                done = subprocess.run(command, stdout=log, stderr=log, check=False, timeout=max(1.0, end - monotonic()))
            except subprocess.TimeoutExpired:
                return f"it took more than {seconds:.0f} s; another run goes on with it"
            if done.returncode:
                return f"see {folder / 'build.log'}"
    return ""


def _tree(folder: Path, source: Path | None) -> Path | None:
    """The folder of llama.cpp's source."""
    if source is None:
        package = f"llama-cpp-python=={metadata.version('llama_cpp_python')}"
        fetch = ["download", "-q", "--no-deps", "--no-binary", ":all:", package]
        subprocess.run([sys.executable, "-m", "pip", *fetch, "-d", str(folder)], check=False)
        source = next(iter(folder.glob("llama_cpp_python-*.tar.gz")), None)
        if source is None:
            return None
    if source.is_file():
        with tarfile.open(source) as archive:
            archive.extractall(folder / "src", filter="data")
        source = folder / "src"
    trees = (found.parent for found in sorted(source.rglob("CMakeLists.txt")) if (found.parent / "ggml/src").is_dir())
    return next(trees, None)
