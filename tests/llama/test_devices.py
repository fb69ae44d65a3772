"""Laws of where a model goes."""

from __future__ import annotations

import pytest

from localspec.errors import MissingFeatureError, UsageError
from localspec.llama.devices import Device, place
from localspec.llama.host import default_threads
from localspec.params import ContextParams

CPU = Device("CPU", "a processor", "cpu", 0, 0, "CPU", 1)
GPU = Device("CUDA0", "a card", "gpu", 10, 20, "CUDA", 2)
SECOND = Device("CUDA1", "a card", "gpu", 10, 20, "CUDA", 3)
SHARED = Device("MTL0", "a laptop", "igpu", 10, 20, "Metal", 4)


@pytest.mark.parametrize("devices", [[CPU], []])
def test_without_a_gpu_nothing_is_offloaded(devices: list[Device]) -> None:
    """No layer."""
    placement = place(devices, ContextParams())
    assert (placement.gpu, placement.layers, placement.handles) == (False, 0, None)


@pytest.mark.parametrize("devices", [[GPU, CPU], [CPU, SHARED], [GPU, SECOND, CPU]])
def test_with_a_gpu_everything_is_offloaded(devices: list[Device]) -> None:
    """All layers, on the devices that llama.cpp chooses."""
    placement = place(devices, ContextParams())
    assert (placement.gpu, placement.layers, placement.handles) == (True, -1, None)


@pytest.mark.parametrize(("layers", "gpu"), [(0, False), (5, True), (-1, True)])
def test_flag_overrides(layers: int, gpu: bool) -> None:
    """The number of layers is the flag's."""
    placement = place([GPU, CPU], ContextParams(gpu_layers=layers))
    assert (placement.gpu, placement.layers) == (gpu, layers)


@pytest.mark.parametrize("name", ["CUDA1", "cuda1"])
def test_named_device_is_used_alone(name: str) -> None:
    """A NULL ends the list."""
    placement = place([GPU, SECOND, CPU], ContextParams(device=name))
    assert list(placement.handles) == [3, None]
    assert (placement.gpu, placement.layers) == (True, -1)


@pytest.mark.parametrize("name", ["cpu", "CPU", "none"])
def test_cpu_can_be_asked_for(name: str) -> None:
    """The list then has no GPU."""
    placement = place([GPU, CPU], ContextParams(device=name))
    assert (list(placement.handles), placement.gpu, placement.layers) == ([None], False, 0)


@pytest.mark.parametrize("name", ["CUDA7", "", "gpu"])
def test_unknown_device_names_those_that_are_there(name: str) -> None:
    """The message has the command that lists them."""
    with pytest.raises(UsageError, match=r"there is: cpu, CUDA0, CUDA1\. `localspec devices`"):
        place([GPU, SECOND, CPU], ContextParams(device=name))


def test_threads_are_at_least_one() -> None:
    """They are at most the machine's."""
    import os

    assert 1 <= default_threads() <= (os.cpu_count() or 1)


def test_library_without_a_function_is_named() -> None:
    """The message names the function and the version to install."""
    from localspec.llama.devices import list_devices

    with pytest.raises(MissingFeatureError, match="lacks ggml_backend_dev_count; install llama-cpp-python"):
        list_devices([])
