"""Laws of doctor's report on the build: it names a GPU that the build cannot use, with the commands for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from localspec.cli.doctor.build import Facts, advise, broken, cuda_wheel, rebuild
from localspec.cli.doctor.hardware import backends_of, cpu_features, cuda_of, facts, has_amd, nvidia_gpus

LINUX = Facts("linux", "x86_64", (3, 11), "python -m pip", frozenset({"cpu"}), frozenset({"cpu"}), compiler=True)
CARD = replace(LINUX, nvidia=("NVIDIA GeForce RTX 4070",), cuda=(12, 8), nvcc=True)
MAC = replace(LINUX, system="darwin", machine="arm64")


@pytest.mark.parametrize("found", [LINUX, replace(MAC, machine="x86_64"), replace(MAC, used=frozenset({"mtl"}))])
def test_nothing_to_say_where_all_is_used(found: Facts) -> None:
    """Or where there is no GPU."""
    assert advise(found) == []


@pytest.mark.parametrize("backend", ["cuda", "vulkan", "rocm"])
def test_a_gpu_in_use_is_enough(backend: str) -> None:
    """By whichever backend."""
    assert advise(replace(CARD, amd=True, used=frozenset({"cpu", backend}))) == []


def test_unused_nvidia_card_is_named_with_wheel_and_build() -> None:
    """The wheel for the newest CUDA that the driver runs."""
    (found,) = advise(CARD)
    wheel, build = found.commands
    assert found.text == "The NVIDIA GeForce RTX 4070 is not used: llama-cpp-python was built without CUDA."
    assert wheel.endswith(
        '"llama-cpp-python>=0.3.36,<0.4" --extra-index-url https://abetlen.github.io/llama-cpp-python/whl/cu125'
    )
    assert build.startswith('CMAKE_ARGS="-DGGML_CUDA=on" python -m pip install --force-reinstall --no-cache-dir')


def test_what_a_build_needs_is_said() -> None:
    """If it is missing."""
    assert (
        "install the CUDA toolkit (nvcc) and a C++ compiler first"
        in advise(replace(CARD, nvcc=False, compiler=False))[0].text
    )
    assert "install a C++ compiler first" in advise(replace(CARD, compiler=False))[0].text


@pytest.mark.parametrize("change", [{"python": (3, 13)}, {"cuda": None}, {"cuda": (10, 2)}])
def test_without_a_wheel_it_is_built(change: dict[str, object]) -> None:
    """No wheels exist for newer Pythons, for old drivers and for drivers of unknown version."""
    (found,) = advise(replace(CARD, **change))  # type: ignore[arg-type]
    assert len(found.commands) == 1
    assert "CMAKE_ARGS" in found.commands[0]


def test_build_with_cuda_that_finds_no_card_is_not_built_again() -> None:
    """The driver is at fault, or a setting."""
    (found,) = advise(replace(CARD, backends=frozenset({"cpu", "cuda"})))
    assert found.commands == ()
    assert "CUDA_VISIBLE_DEVICES" in found.text


def test_mac_without_metal_is_told_of_it() -> None:
    """Wheel, then build; a Python that is translated first."""
    (found,) = advise(MAC)
    assert found.commands[0].endswith("/whl/metal")
    assert found.commands[1].startswith('CMAKE_ARGS="-DGGML_METAL=on"')
    assert "virtual machine" in advise(replace(MAC, backends=frozenset({"metal"})))[0].text
    assert "arm64 Python" in advise(replace(MAC, machine="x86_64", translated=True))[0].text


def test_amd_card_gets_vulkan() -> None:
    """From a wheel or a build."""
    (found,) = advise(replace(LINUX, amd=True))
    assert found.commands[0].endswith("/whl/vulkan")
    assert "GGML_VULKAN" in found.commands[1]
    assert advise(replace(LINUX, amd=True, backends=frozenset({"vulkan"})))[0].commands == ()


def test_windows_sets_variables_in_its_own_way() -> None:
    """PowerShell's."""
    found = rebuild(replace(CARD, system="windows", pip="& 'python.exe' -m pip"), "GGML_CUDA")
    assert found.startswith("$env:CMAKE_ARGS = \"-DGGML_CUDA=on\"; & 'python.exe' -m pip install")


def test_broken_library_is_installed_again_with_what_it_needs() -> None:
    """For the GPU that is there."""
    error = OSError("libllama.so:  not\nfound")
    assert "(libllama.so: not found)" in broken(LINUX, error).text
    assert broken(LINUX, error).commands[0].endswith("/whl/cpu")
    assert broken(CARD, error).commands[0].endswith("/whl/cu125")
    assert "GGML_METAL" in broken(MAC, error).commands[1]
    assert not any("--no-deps" in command for command in broken(CARD, error).commands)


@pytest.mark.parametrize(
    ("driver", "kind"),
    [((11, 8), "cu118"), ((12, 0), None), ((12, 4), "cu124"), ((12, 9), "cu125"), ((13, 1), "cu130"), (None, None)],
)
def test_wheel_is_of_the_drivers_major_version(driver: tuple[int, int] | None, kind: str | None) -> None:
    """Never a newer one."""
    assert cuda_wheel(driver) == kind


@pytest.mark.parametrize(
    ("told", "version"),
    [
        ("| NVIDIA-SMI 550.54.14    Driver Version: 550.54.14    CUDA Version: 12.4     |", (12, 4)),
        ("| NVIDIA-SMI 610.1   KMD Version: 610.1   CUDA UMD Version: 13.2 |", (13, 2)),
        ("| CUDA Version: N/A |", None),
        ("", None),
    ],
)
def test_cuda_is_read_from_the_drivers_table(told: str, version: tuple[int, int] | None) -> None:
    assert cuda_of(told) == version


def test_backends_are_read_from_the_names_of_libraries() -> None:
    """Of Linux, macOS and Windows, however many a backend has."""
    names = [
        "lib/libggml-base.so", "lib/libggml-cpu.so.0.25.3", "lib/libggml-cuda.so", "llama_cpp/lib/libggml-metal.dylib",
        "bin/ggml-vulkan.dll", "llama_cpp/lib/libggml-cpu-haswell.so", "lib/libggml.so", "lib/libllama.so",
        "include/ggml-cuda.h",
    ]  # fmt: skip
    assert backends_of(names) == {"cpu", "cuda", "metal", "vulkan"}


def test_cards_are_read_from_the_system(tmp_path: Path) -> None:
    """NVIDIA's by name, AMD's by vendor."""
    assert (nvidia_gpus(tmp_path), has_amd(tmp_path)) == ((), False)
    card = tmp_path / "proc/driver/nvidia/gpus/0000:01:00.0"
    card.mkdir(parents=True)
    (card / "information").write_text("Model: \t\t NVIDIA GeForce RTX 4070\nIRQ:   \t\t 42\n")
    vendor = tmp_path / "sys/class/drm/card0/device"
    vendor.mkdir(parents=True)
    (vendor / "vendor").write_text("0x1002\n")
    assert (nvidia_gpus(tmp_path), has_amd(tmp_path)) == (("NVIDIA GeForce RTX 4070",), True)


def test_features_are_those_that_are_on() -> None:
    """Of the CPU and the build."""
    told = "CPU : SSE3 = 1 | AVX512 = 0 | SVE_CNT = 16 | REPACK = 1 |"
    assert cpu_features(told) == ["SSE3", "SVE_CNT", "REPACK"]


def test_this_machine_is_looked_at() -> None:
    """Without an error, whatever it is."""
    found = facts(["CPU"])
    assert found.used == {"cpu"}
    assert found.used <= found.backends
    assert found.pip.endswith("-m pip")
