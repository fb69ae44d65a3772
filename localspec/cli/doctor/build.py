"""Find a GPU that the build of llama-cpp-python does not use, and the commands that change it. Pure.

The addresses and requirements of the wheels are from llama-cpp-python's README.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_WHEELS = "https://abetlen.github.io/llama-cpp-python/whl/"
#: CUDA versions that have wheels.
_CUDA = ((11, 8), (12, 1), (12, 2), (12, 3), (12, 4), (12, 5), (13, 0), (13, 2))
#: Python versions that have wheels.
_PYTHONS = ((3, 10), (3, 11), (3, 12))
#: The same range as in pyproject.toml.
_PACKAGE = '"llama-cpp-python>=0.3.36,<0.4"'
#: Options of pip that replace the package alone, and the package with its dependencies.
_AGAIN = "--force-reinstall --no-cache-dir --no-deps"
_WITH_ALL = "--force-reinstall --no-cache-dir"


@dataclass(frozen=True)
class Facts:
    """Facts of this machine and installation.

    ``backends`` are those of the build, ``used`` those of the devices that llama.cpp lists; both in lower case.
    """

    system: str
    """``linux``, ``darwin`` or ``windows``."""
    machine: str
    """``x86_64``, ``arm64`` …"""
    python: tuple[int, int]
    pip: str
    """The command that runs pip for this Python."""
    backends: frozenset[str] = frozenset()
    used: frozenset[str] = frozenset()
    nvidia: tuple[str, ...] = ()
    """Names of NVIDIA GPUs, from the driver."""
    cuda: tuple[int, int] | None = None
    """The newest CUDA that the driver can run."""
    amd: bool = False
    translated: bool = False
    """True for an Intel build of Python on an Apple processor."""
    nvcc: bool = False
    compiler: bool = False


@dataclass(frozen=True)
class Advice:
    """A possible improvement, in a sentence or two, and alternative commands for it."""

    text: str
    commands: tuple[str, ...] = ()


def advise(facts: Facts) -> list[Advice]:
    """Advice about a GPU of this machine that this build cannot use."""
    if facts.translated:
        return [
            Advice(
                "This Python is an Intel build, and runs many times slower on this Mac: install an arm64 Python, then "
                "localspec with it."
            )
        ]
    if facts.used & {"metal", "mtl", "cuda", "vulkan", "rocm", "hip", "sycl", "opencl"}:
        return []
    if facts.system == "darwin" and facts.machine == "arm64":
        return [_metal(facts)]
    if facts.nvidia:
        return [_cuda(facts)]
    if facts.amd and facts.system != "darwin":
        return [_amd(facts)]
    return []


def broken(facts: Facts, error: Exception) -> Advice:
    """Advice for a llama-cpp-python that cannot be loaded."""
    reason = " ".join(str(error).split()) or type(error).__name__
    flag, kind = "", "cpu"
    if facts.system == "darwin" and facts.machine == "arm64":
        flag, kind = "GGML_METAL", "metal"
    elif facts.nvidia and (fitting := cuda_wheel(facts.cuda)):
        flag, kind = "GGML_CUDA", fitting
    again = rebuild(facts, flag) if flag else f"{facts.pip} install {_AGAIN} {_PACKAGE}"
    commands = (*wheel(facts, kind), again)
    return Advice(
        f"llama-cpp-python cannot be loaded ({reason}). Install it again with its dependencies:",
        tuple(command.replace(_AGAIN, _WITH_ALL) for command in commands),
    )


def rebuild(facts: Facts, flag: str) -> str:
    """The command that builds llama-cpp-python with a backend; ``flag`` is the option of CMake."""
    if facts.system == "windows":
        return f'$env:CMAKE_ARGS = "-D{flag}=on"; {facts.pip} install {_AGAIN} {_PACKAGE}'
    return f'CMAKE_ARGS="-D{flag}=on" {facts.pip} install {_AGAIN} {_PACKAGE}'


def wheel(facts: Facts, kind: str) -> list[str]:
    """The command that installs a prebuilt wheel, if this Python may have one."""
    if facts.python not in _PYTHONS:
        return []
    return [f"{facts.pip} install {_AGAIN} --only-binary :all: {_PACKAGE} --extra-index-url {_WHEELS}{kind}"]


def cuda_wheel(driver: tuple[int, int] | None) -> str | None:
    """The kind of wheel for the newest CUDA that a driver runs: its own major version, and no newer."""
    if driver is None:
        return None
    fitting = [version for version in _CUDA if version[0] == driver[0] and version <= driver]
    return "cu{}{}".format(*fitting[-1]) if fitting else None


def _metal(facts: Facts) -> Advice:
    if facts.backends & {"metal", "mtl"}:
        return Advice("llama.cpp was built with Metal and finds no device; a virtual machine has none.")
    return Advice(
        "This Mac's GPU is not used: llama-cpp-python was built without Metal.",
        (*wheel(facts, "metal"), rebuild(facts, "GGML_METAL")),
    )


def _cuda(facts: Facts) -> Advice:
    name = facts.nvidia[0]
    if "cuda" in facts.backends:
        return Advice(
            f"The {name} is not used: llama.cpp was built with CUDA and finds no device. Check CUDA_VISIBLE_DEVICES, "
            "and that the driver supports the CUDA of the build (see nvidia-smi)."
        )
    kind = cuda_wheel(facts.cuda)
    lacks = _lacks(facts, "the CUDA toolkit (nvcc)" if not facts.nvcc else "")
    return Advice(
        f"The {name} is not used: llama-cpp-python was built without CUDA.{lacks}",
        (*(wheel(facts, kind) if kind else []), rebuild(facts, "GGML_CUDA")),
    )


def _amd(facts: Facts) -> Advice:
    if "vulkan" in facts.backends or "hip" in facts.backends:
        return Advice("The AMD GPU is not used: llama.cpp was built for it and finds no device. Check its driver.")
    lacks = _lacks(facts, "the Vulkan SDK (glslc)")
    return Advice(
        f"The AMD GPU is not used: llama-cpp-python was built without Vulkan.{lacks}",
        (*wheel(facts, "vulkan"), rebuild(facts, "GGML_VULKAN")),
    )


def _lacks(facts: Facts, tool: str) -> str:
    """A sentence about the tools that a build needs and that are missing."""
    needs: Sequence[str] = [tool, *([] if facts.compiler else ["a C++ compiler"])]
    return f" To build it, install {' and '.join(filter(None, needs))} first." if any(needs) else ""
