"""Laws of what is told about a model on several machines."""

from __future__ import annotations

import pytest

from localspec.loading import spread as spreading
from localspec.loading.files import find_files
from localspec.loading.spread import spread_layers
from localspec.machines.address import Address
from localspec.machines.probe import Worker, WorkerDevice
from localspec.memory.fit import LoadRequest, Machine
from localspec.params import ContextParams

GIB = 1 << 30
WORKER = Address("there", layers=1)
Q8_0 = 8


@pytest.mark.parametrize(("repacks", "repack", "told"), [({Q8_0: 8}, True, 1), ({Q8_0: 8}, False, 0), ({}, True, 0)])
def test_kernels_that_workers_lack_are_told(
    monkeypatch: pytest.MonkeyPatch, repacks: dict[int, int], repack: bool, told: int
) -> None:
    """Answers then depend on who holds what; not where this machine does without such kernels, too."""
    monkeypatch.setattr(spreading, "require_rpc", lambda: None)
    device = WorkerDevice(GIB, GIB, 1e9)
    worker = Worker(WORKER, (7, 0, 0), (device,), 1e-3, 1e8)
    monkeypatch.setattr(spreading, "probe_all", lambda addresses, kind: (worker,))
    request = LoadRequest.from_headers(find_files("tiny", "none").target, None, "none")
    params = ContextParams(ctx_size=256, device="none", repack=repack)
    found = spread_layers((WORKER,), request, params, Machine(4 * GIB, 4 * GIB, repacks=repacks))
    (notice,) = found.settings.notices
    assert "there:50052 holds layer 0;" in notice
    assert notice.count("--exactness require") == told
