"""Laws of ``localspec devices``."""

from __future__ import annotations

import json

import pytest

from localspec.cli.commands.devices import table
from localspec.llama.devices import Device

GIB = 1024**3
FOUND = [
    Device("CPU", "A processor", "cpu", 8 * GIB, 16 * GIB, "CPU"),
    Device("CUDA0", "A card with a long name", "gpu", 0, 0, "CUDA"),
]


def test_the_table_is_aligned():
    assert table(FOUND, 100) == [
        "name   kind  memory free/total  description",
        "CPU    cpu   8.0 GiB/16.0 GiB   A processor",
        "CUDA0  gpu   -                  A card with a long name",
    ]


@pytest.mark.parametrize("width", [40, 50])
def test_a_narrow_table_fits(width):
    assert max(map(len, table(FOUND, width))) <= width


def test_no_device_is_told():
    assert table([], 80) == ["llama.cpp reports no device."]


def test_the_cpu_of_this_machine_is_listed(program):
    result = program("devices")
    assert result.exit_code == 0
    assert result.stdout.startswith("name")
    assert "cpu" in result.stdout
    assert len(program("devices", "--verbose").stdout) > len(result.stdout)


def test_json(program):
    found = json.loads(program("devices", "--json").stdout)
    assert found["system_info"]
    for device in found["devices"]:
        assert set(device) == {"name", "kind", "description", "backend", "memory_free", "memory_total"}
