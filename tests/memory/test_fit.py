"""Laws of what fits where, on made-up machines: as much on the GPU as fits, a refusal only where nothing would."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import localspec
from localspec.errors import UsageError
from localspec.gguf.header import GgufHeader, read_header
from localspec.llama.devices import Device
from localspec.llama.host import parse_available
from localspec.llama.model import LlamaModel
from localspec.loading import models
from localspec.memory.estimate import MIB, repacked_types
from localspec.memory.fit import LoadRequest, LoadSettings, Machine, context_size, model_parts
from localspec.memory.fit import choose_settings as choose
from localspec.memory.gpu_layers import ModelParts, device_bytes, free_bytes, gpu_layers
from localspec.models.resolve import TINY_TARGET
from localspec.params import ContextParams
from localspec.probe.load_test import Trial
from tests.helpers.made_headers import dense

GIB = 1 << 30
CPU = Device("CPU", "a processor", "cpu", 0, 0, "CPU")
PARAMS = ContextParams(ctx_size=4096)
TARGET = ModelParts((dense(32, 4096, 32768, "big.gguf", attention__head_count_kv=8, context_length=131072),))
DRAFTER = ModelParts((dense(8, 1024, 32768, "small.gguf"),))
REPACKS = repacked_types("AVX2 = 1 | REPACK = 1")


def card(free: float, total: float | None = None, kind: str = "gpu", backend: str = "CUDA") -> Device:
    """A GPU with so many GiB."""
    return Device("GPU0", "a card", kind, int(free * GIB), int((total or free) * GIB), backend)  # type: ignore[arg-type]


def machine(memory: float, *devices: Device, available: float | None = None) -> Machine:
    return Machine(int(memory * GIB), int(available * GIB) if available else None, (*devices, CPU), REPACKS)


def held(found: tuple[int, int], drafter: ModelParts | None = DRAFTER, params: ContextParams = PARAMS) -> int:
    """Bytes on the GPU with these layers of both models there."""
    target = device_bytes(TARGET, params, 4096, found[0])
    return target + device_bytes(drafter, params, 4096, found[1])


def test_all_layers_go_where_they_fit() -> None:
    """Of both models, and none without a GPU."""
    assert gpu_layers(TARGET, DRAFTER, PARAMS, 4096, [card(80)]) == (-1, -1)
    assert gpu_layers(TARGET, DRAFTER, PARAMS, 4096, []) == (0, 0)


def test_device_that_does_not_tell_its_memory_takes_all() -> None:
    """There is nothing to go by."""
    assert gpu_layers(TARGET, DRAFTER, PARAMS, 4096, [card(0, 0)]) == (-1, -1)


@given(free=st.floats(0.0, 12.0), drafts=st.booleans())
def test_as_many_layers_as_fit_and_no_more(free: float, drafts: bool) -> None:
    """The chosen layers fit, and one more of the target would not."""
    drafter = DRAFTER if drafts else None
    device = card(free, max(free, 8.0))
    space = free_bytes([device]) or 0
    found = gpu_layers(TARGET, drafter, PARAMS, 4096, [device])
    assert held(found, drafter) <= space
    assert found[0] == -1 or held((found[0] + 1, -1), drafter) > space


@given(free=st.floats(0.0, 10.0), more=st.floats(0.0, 2.0))
def test_more_memory_never_holds_fewer_layers(free: float, more: float) -> None:
    """A smaller context does not hold fewer either."""
    count = TARGET.n_layers
    few, many = (
        gpu_layers(TARGET, DRAFTER, PARAMS, 4096, [card(n, 12.0)])[0] % (count + 1) for n in (free, free + more)
    )
    assert few <= many
    assert few <= gpu_layers(TARGET, DRAFTER, PARAMS, 512, [card(free, 12.0)])[0] % (count + 1)


def test_drafter_goes_first() -> None:
    """It is computed for every token; the target has what is left, also where that is nothing."""
    small = device_bytes(DRAFTER, PARAMS, 4096, -1)
    free = (small + 300 * MIB) / GIB
    assert gpu_layers(TARGET, DRAFTER, PARAMS, 4096, [card(free, 4)]) == (0, -1)
    assert gpu_layers(TARGET, DRAFTER, PARAMS, 4096, [card(3, 4)])[1] == -1


def test_several_gpus_are_filled_together() -> None:
    """With room for a layer that ends on neither."""
    one, two = (gpu_layers(TARGET, None, PARAMS, 4096, [card(1.5)] * n)[0] for n in (1, 2))
    assert one < two < 2 * one


def test_layers_that_fit_become_the_default() -> None:
    """A notice has their number and what would make more fit; a named device alone counts."""
    found = choose(LoadRequest(TARGET, DRAFTER), PARAMS, machine(32, card(2)))
    layers = found.target.gpu_layers
    assert layers is not None
    assert 0 < layers < TARGET.n_layers
    assert (found.drafter.gpu_layers, found.device) == (-1, held((layers, -1)))
    assert re.search(rf"GPU0 has .* to spare: {layers} of 33 layers of big.gguf .* smaller quant", found.notices[0])
    assert choose(LoadRequest(TARGET), PARAMS, machine(32, card(24))).notices == ()
    assert choose(LoadRequest(TARGET), replace(PARAMS, device="cpu"), machine(32, card(2))).target.gpu_layers is None


@pytest.mark.parametrize("asked", [-1, 33, 30])
def test_layers_asked_for_beyond_the_device_are_refused(asked: int) -> None:
    """With as many as fit."""
    with pytest.raises(UsageError, match=r"-ngl (all|33|30) .* needs .* on GPU0, which has 1\.0 GiB; 5 of 33 layers"):
        choose(LoadRequest(TARGET), replace(PARAMS, gpu_layers=asked), machine(32, card(1)))


def test_layers_asked_for_that_fit_are_kept() -> None:
    """Without a notice; with one if other programs hold the device's memory now."""
    params = replace(PARAMS, gpu_layers=5)
    assert choose(LoadRequest(TARGET), params, machine(32, card(8))) == replace(
        choose(LoadRequest(TARGET), params, machine(32, card(80))), notices=()
    )
    assert "may fail" in choose(LoadRequest(TARGET), params, machine(32, card(0.5, 8))).notices[0]
    assert choose(LoadRequest(TARGET), replace(PARAMS, gpu_layers=0), machine(32, card(1))).device == 0


def test_metal_may_use_more_than_it_recommends() -> None:
    """Its working set is of the host's memory, and no hard bound."""
    need = held((-1, 0)) / GIB
    mac = card(need * 0.9, backend="MTL")
    assert "may fail" in choose(LoadRequest(TARGET), replace(PARAMS, gpu_layers=-1), machine(32, mac)).notices[0]
    with pytest.raises(UsageError, match="-ngl all"):
        choose(LoadRequest(TARGET), replace(PARAMS, gpu_layers=-1), machine(32, card(need * 0.9)))


def test_shared_memory_is_the_hosts() -> None:
    """Memory of an integrated GPU is taken from the host; a card has its own."""
    shared, own = (choose(LoadRequest(TARGET), PARAMS, machine(64, card(16, kind=kind))) for kind in ("igpu", "gpu"))
    assert shared.private - own.private == shared.device == own.device


def without_gpu(
    memory: float, load: LoadRequest | None = None, available: float | None = None, **changes: Any
) -> LoadSettings:
    return choose(
        load or LoadRequest(TARGET, DRAFTER), replace(PARAMS, **changes), machine(memory, available=available)
    )


def test_what_fits_is_loaded_as_asked() -> None:
    """Without a notice."""
    found = without_gpu(64)
    assert (found.notices, found.target, found.drafter) == ((), PARAMS, PARAMS)
    assert found.private < found.peak


def test_context_beyond_the_memory_is_refused_with_one_that_fits() -> None:
    """The proposed context fits, and one step more does not."""
    with pytest.raises(
        UsageError, match=r"big\.gguf with a context of 500000 tokens needs .* has 16\.0 GiB"
    ) as refused:
        without_gpu(16, ctx_size=500_000)
    tokens = int(re.findall(r"--ctx-size (\d+)", str(refused.value))[0])
    assert without_gpu(16, ctx_size=tokens).n_ctx == tokens
    with pytest.raises(UsageError, match=f"--ctx-size {tokens}"):
        without_gpu(16, ctx_size=tokens + 256)


def test_context_proposed_is_one_that_the_model_was_made_for() -> None:
    """It is at most the model's own."""
    small = LoadRequest(ModelParts((dense(name="small.gguf", context_length=2048),)))
    with pytest.raises(UsageError, match="a context of 2048 tokens fits"):
        without_gpu(16, small, ctx_size=10**9)


def test_context_left_open_is_one_that_fits() -> None:
    """With a notice; a context too small to be useful is refused."""
    need = [
        choose(LoadRequest(TARGET), ContextParams(ctx_size=n, repack=False), machine(64)).private
        for n in (1024, 3072, 4096)
    ]
    found = choose(LoadRequest(TARGET), ContextParams(), machine(need[1] / GIB))
    assert (found.n_ctx, found.target.ctx_size, found.drafter.ctx_size) == (3072, 3072, 3072)
    assert "room for a context of 3072 tokens" in found.notices[0]
    with pytest.raises(UsageError, match="--ctx-size 1024"):
        choose(LoadRequest(TARGET), ContextParams(), machine(need[0] / GIB))


def test_second_copies_are_left_out_where_that_makes_it_fit() -> None:
    """Rather than refuse; decoding is slower."""
    full = without_gpu(64).private
    found = without_gpu((full - 100 * MIB) / GIB)
    assert (found.target.repack, found.drafter.repack) == (False, False)
    assert found.private < full
    assert "second copy" in found.notices[0]


def test_drafter_too_many_is_named() -> None:
    """If the smallest context does not fit beside it."""
    load = LoadRequest(DRAFTER, TARGET)
    bare = without_gpu(
        64,
        LoadRequest(DRAFTER),
        ctx_size=512,
    ).private
    with pytest.raises(UsageError, match=r"it fits without big\.gguf \(-d ngram"):
        without_gpu((bare + 20 * MIB) / GIB, load, ctx_size=512)
    with pytest.raises(UsageError, match="use a smaller model"):
        without_gpu(0.05, load, ctx_size=512)


def test_weights_beyond_the_memory_are_loaded_with_a_warning() -> None:
    """They would be read again and again; the warning has what fits."""
    plain = Machine(3 * GIB, None, (CPU,), {})
    found = choose(LoadRequest(TARGET), PARAMS, plain)
    assert found.private < 3 * GIB < found.peak
    assert re.search(r"weights do not fit.*slow\. Files of together \d\.\d GiB would stay", found.notices[0])


def test_memory_that_others_hold_is_told() -> None:
    """The load goes on: the system can push them out."""
    assert "0.5 GiB is free: other programs" in without_gpu(64, available=0.5).notices[0]


def test_nothing_is_known_of_the_memory() -> None:
    """Any load is accepted."""
    assert choose(LoadRequest(TARGET), replace(PARAMS, ctx_size=10**8), Machine(None)).notices == ()


def test_context_is_the_models_own_up_to_a_bound() -> None:
    """Or the requested one."""
    header = TARGET.headers[0]
    assert context_size(header, ContextParams()) == 8192
    assert context_size(dense(context_length=2048), ContextParams()) == 2048
    assert context_size(dense(), ContextParams()) == 8192
    assert context_size(header, ContextParams(ctx_size=100)) == 100


def test_parts_of_a_split_file_count(tmp_path: Path) -> None:
    """All that are beside the first."""
    names = [f"big-0000{i}-of-00003.gguf" for i in (1, 2)]
    for name in names:
        shutil.copy(TINY_TARGET, tmp_path / name)
    assert [part.path.name for part in model_parts(read_header(tmp_path / names[0])).headers] == names
    assert len(model_parts(read_header(TINY_TARGET)).headers) == 1


def test_free_memory_is_read_from_what_systems_tell() -> None:
    """Linux and macOS; anything else is no number."""
    linux = "MemTotal:       24684052 kB\nMemFree:        18915036 kB\nMemAvailable:   22539180 kB\n"
    assert parse_available(linux) == 22539180 * 1024
    mac = (
        "Mach Virtual Memory Statistics: (page size of 16384 bytes)\nPages free:          10.\nPages active:     500.\n"
        "Pages inactive:      20.\nPages speculative:   3.\nPages wired down:  400.\nPages purgeable:     4.\n"
    )
    assert parse_available(mac) == 37 * 16384
    with pytest.raises(ValueError, match="nonsense"):
        parse_available("nonsense")


def test_load_refuses_before_anything_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """No model is opened, and no file is tried."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("loaded")

    monkeypatch.setattr(models, "LlamaModel", refuse)
    monkeypatch.setattr(Trial, "begin", refuse)
    with pytest.raises(UsageError, match=r"tiny\.gguf with a context of 2000000000 tokens .*--ctx-size 4096"):
        localspec.load("tiny", ctx_size=2_000_000_000)


def test_both_models_get_the_layers_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each its own number, and the user hears of it."""
    layers = {}  # in any order: both are loaded at the same time

    class Model(LlamaModel):
        def __init__(self, header: GgufHeader, params: ContextParams, **options: Any) -> None:
            layers[header.path.name] = params.gpu_layers
            super().__init__(header, params, **options)

    monkeypatch.setattr(models, "LlamaModel", Model)
    monkeypatch.setattr("localspec.memory.machine.read_machine", lambda: machine(8, card((256 + 10.5) / 1024, 4)))
    with localspec.load("tiny", ctx_size=512, mmproj="none") as engine:
        assert any("layers of tiny.gguf fit there" in notice for notice in engine.notices)
    few = layers.pop("tiny.gguf")
    assert layers == {"tiny-assistant.gguf": -1}
    assert few is not None
    assert 0 < few < 7
