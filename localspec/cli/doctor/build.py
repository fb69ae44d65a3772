"""Which GPU a build of llama-cpp-python leaves unused here, and the commands that change it. Pure.

The addresses and requirements of the wheels are those of llama-cpp-python's README.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_WHEELS = "https://abetlen.github.io/llama-cpp-python/whl/"
#: CUDA versions that there are wheels for, and the versions of Python.
_CUDA = ((11, 8), (12, 1), (12, 2), (12, 3), (12, 4), (12, 5), (13, 0), (13, 2))
_PYTHONS = ((3, 10), (3, 11), (3, 12))
#: As localspec's own dependency is.
_PACKAGE = '"llama-cpp-python>=0.3.36,<0.4"'
_AGAIN = "--force-reinstall --no-cache-dir --no-deps"
_WITH_ALL = "--force-reinstall --no-cache-dir"


@dataclass(frozen=True)
class Facts:
    """What is here. ``backends`` of the build, ``used`` of the devices that llama.cpp lists, both in lower case."""

    system: str
    """``linux``, ``darwin`` or ``windows``."""
    machine: str
    """``x86_64``, ``arm64`` …"""
    python: tuple[int, int]
    pip: str
    """How pip is called for this Python."""
    backends: frozenset[str] = frozenset()
    used: frozenset[str] = frozenset()
    nvidia: tuple[str, ...] = ()
    """Names of NVIDIA GPUs, by the driver."""
    cuda: tuple[int, int] | None = None
    """The newest CUDA that the driver can run."""
    amd: bool = False
    translated: bool = False
    """Whether this is an Intel program on an Apple processor."""
    nvcc: bool = False
    compiler: bool = False


@dataclass(frozen=True)
class Advice:
    """A thing to improve, in a sentence or two, and the commands that do it: the first that works is enough."""

    text: str
    commands: tuple[str, ...] = ()


def advise(facts: Facts) -> list[Advice]:
    """What this build cannot use of this machine."""
    if facts.translated:
        return [
            Advice(
                "This Python was made for Intel processors and is translated on this Mac, many times slower: install "
                "an arm64 Python, then localspec with it."
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
    """For a llama-cpp-python that cannot be loaded."""
    why = " ".join(str(error).split()) or type(error).__name__
    flag, kind = "", "cpu"
    if facts.system == "darwin" and facts.machine == "arm64":
        flag, kind = "GGML_METAL", "metal"
    elif facts.nvidia and (fitting := cuda_wheel(facts.cuda)):
        flag, kind = "GGML_CUDA", fitting
    again = rebuild(facts, flag) if flag else f"{facts.pip} install {_AGAIN} {_PACKAGE}"
    commands = (*wheel(facts, kind), again)
    return Advice(
        f"llama-cpp-python cannot be loaded ({why}). Install it again, with what it needs:",
        tuple(command.replace(_AGAIN, _WITH_ALL) for command in commands),
    )


def rebuild(facts: Facts, flag: str) -> str:
    """The command that builds llama-cpp-python with a backend; ``flag`` is CMake's."""
    if facts.system == "windows":
        return f'$env:CMAKE_ARGS = "-D{flag}=on"; {facts.pip} install {_AGAIN} {_PACKAGE}'
    return f'CMAKE_ARGS="-D{flag}=on" {facts.pip} install {_AGAIN} {_PACKAGE}'


def wheel(facts: Facts, kind: str) -> list[str]:
    """The command that installs a ready wheel, if there may be one for this Python."""
    if facts.python not in _PYTHONS:
        return []
    return [f"{facts.pip} install {_AGAIN} --only-binary :all: {_PACKAGE} --extra-index-url {_WHEELS}{kind}"]


def cuda_wheel(driver: tuple[int, int] | None) -> str | None:
    """The wheel for the newest CUDA that a driver runs: of its own major version, and no newer."""
    if driver is None:
        return None
    fitting = [version for version in _CUDA if version[0] == driver[0] and version <= driver]
    return "cu{}{}".format(*fitting[-1]) if fitting else None


def _metal(facts: Facts) -> Advice:
    if facts.backends & {"metal", "mtl"}:
        return Advice("llama.cpp was built with Metal and finds no device: is this a virtual machine?")
    return Advice(
        "This Mac's GPU is not used: llama-cpp-python was built without Metal.",
        (*wheel(facts, "metal"), rebuild(facts, "GGML_METAL")),
    )


def _cuda(facts: Facts) -> Advice:
    name = facts.nvidia[0]
    if "cuda" in facts.backends:
        return Advice(
            f"The {name} is not used: llama.cpp was built with CUDA and finds no device. Look at CUDA_VISIBLE_DEVICES, "
            "and whether the driver is as new as the CUDA of the build (nvidia-smi tells)."
        )
    kind = cuda_wheel(facts.cuda)
    lacks = _lacks(facts, "the CUDA toolkit (nvcc)" if not facts.nvcc else "")
    return Advice(
        f"The {name} is not used: llama-cpp-python was built without CUDA.{lacks}",
        (*(wheel(facts, kind) if kind else []), rebuild(facts, "GGML_CUDA")),
    )


def _amd(facts: Facts) -> Advice:
    if "vulkan" in facts.backends or "hip" in facts.backends:
        return Advice("The AMD GPU is not used: llama.cpp was built for it and finds no device. Look at its driver.")
    lacks = _lacks(facts, "the Vulkan SDK (glslc)")
    return Advice(
        f"The AMD GPU is not used: llama-cpp-python was built without Vulkan.{lacks}",
        (*wheel(facts, "vulkan"), rebuild(facts, "GGML_VULKAN")),
    )


def _lacks(facts: Facts, tool: str) -> str:
    """What a build needs."""
    needs: Sequence[str] = [tool, *([] if facts.compiler else ["a C++ compiler"])]
    return f" To build it, install {' and '.join(filter(None, needs))} first." if any(needs) else ""
