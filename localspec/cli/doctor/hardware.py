"""Facts of this machine and this installation, from files, and from nvidia-smi if there is an unused GPU."""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from localspec.cli.doctor.build import Facts

#: PCI vendor id of AMD.
_AMD_VENDOR = "0x1002"
_BACKEND = re.compile(r"(?:^|/)(?:lib)?ggml-([a-z]+)[\w.-]*\.(?:so|dylib|dll)$")
_SYSTEMS = {"win32": "windows", "darwin": "darwin"}


def facts(used: Iterable[str]) -> Facts:
    """All facts; ``used``: the backends of the devices that llama.cpp lists."""
    system, names = _SYSTEMS.get(sys.platform, "linux"), nvidia_gpus()
    on = frozenset(name.lower() for name in used)
    return Facts(
        system=system,
        machine=platform.machine().lower().replace("amd64", "x86_64").replace("aarch64", "arm64"),
        python=sys.version_info[:2],
        pip=f"{shlex.quote(sys.executable) if system != 'windows' else f'& {sys.executable!r}'} -m pip",
        backends=built_backends() | on,
        used=on,
        nvidia=names,
        cuda=driver_cuda() if names and "cuda" not in on else None,
        amd=has_amd(),
        translated=system == "darwin" and _sysctl("sysctl.proc_translated") == "1",
        nvcc=bool(shutil.which("nvcc")) or Path("/usr/local/cuda/bin/nvcc").exists(),
        compiler=any(shutil.which(name) for name in ("c++", "g++", "clang++", "cl")),
    )


def built_backends() -> frozenset[str]:
    """Backends that the libraries of llama.cpp in use are built for; statically linked ones are not found."""
    from importlib.metadata import PackageNotFoundError, files

    from localspec.llama.binding import LIBRARIES

    try:
        if folder := os.environ.get(LIBRARIES):
            return backends_of(os.listdir(folder))
        names = [str(file).replace("\\", "/") for file in files("llama_cpp_python") or ()]
    except (PackageNotFoundError, OSError):
        return frozenset()
    return backends_of(names)


def backends_of(names: Iterable[str]) -> frozenset[str]:
    """``libggml-cuda.so`` → ``cuda``; the common part is no backend."""
    found = (match[1] for name in names if (match := _BACKEND.search(name)))
    return frozenset(found) - {"base"}


def nvidia_gpus(root: Path = Path("/")) -> tuple[str, ...]:
    """Names of NVIDIA GPUs from the driver (Linux), or a general one if only the driver is found."""
    found = []
    for path in sorted((root / "proc/driver/nvidia/gpus").glob("*/information")):
        with suppress(OSError):
            model = re.search(r"^Model:\s*(.+?)\s*$", path.read_text(errors="replace"), re.MULTILINE)
            found.append(model[1] if model else "NVIDIA GPU")
    if found:
        return tuple(found)
    on_windows = sys.platform == "win32" and shutil.which("nvidia-smi")
    under_windows = (root / "usr/lib/wsl/lib/nvidia-smi").exists()
    return ("NVIDIA GPU",) if on_windows or under_windows or (root / "dev/nvidia0").exists() else ()


def has_amd(root: Path = Path("/")) -> bool:
    """True if a graphics card is from AMD (Linux)."""
    for path in (root / "sys/class/drm").glob("card*/device/vendor"):
        with suppress(OSError):
            if path.read_text().strip() == _AMD_VENDOR:
                return True
    return False


def driver_cuda() -> tuple[int, int] | None:
    """The CUDA version that nvidia-smi reports, or None."""
    tool = shutil.which("nvidia-smi") or "/usr/lib/wsl/lib/nvidia-smi"
    with suppress(OSError, subprocess.SubprocessError):
        return cuda_of(subprocess.run([tool], capture_output=True, text=True, timeout=5, check=True).stdout)
    return None


def cuda_of(output: str) -> tuple[int, int] | None:
    """The CUDA version in the header of nvidia-smi's table."""
    found = re.search(r"CUDA (?:UMD )?Version:\s*(\d+)\.(\d+)", output)
    return (int(found[1]), int(found[2])) if found else None


def cpu_features(system_info: str) -> list[str]:
    """Features of the processor that llama.cpp's kernels use, from its line ``AVX2 = 1 | …``."""
    return [name for name, value in re.findall(r"(\w+) = (\d+)", system_info) if value != "0"]


def _sysctl(name: str) -> str | None:
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, timeout=2, check=True)
        return done.stdout.strip()
    return None
