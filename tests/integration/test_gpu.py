"""A GPU, real or lavapipe (docs/gpu.md): run with ``-m integration`` and a build of llama.cpp that has one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial

import pytest
from click.testing import CliRunner

import localspec
from localspec.cli import cli
from localspec.engine import Engine
from localspec.llama.binding import devices
from localspec.llama.context import LlamaContext
from localspec.params import ContextParams

GPUS = [device for device in devices() if device.kind in ("gpu", "igpu")]
pytestmark = [pytest.mark.integration, pytest.mark.skipif(not GPUS, reason="llama.cpp has no GPU here")]
#: ggml's numbers of cache types.
F16, Q8_0 = 1, 8
PROMPTS = ("Tell me a story about a brave cat.", "Once upon a time there was a cat. Once upon a time there was a")


@pytest.fixture(autouse=True)
def narrow_prefill(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts in passes of 64 tokens: wide ones take minutes on lavapipe."""
    monkeypatch.setattr("localspec.loading.ContextParams", partial(ContextParams, batch=64))


def options(engine: Engine) -> tuple[bool, int, int]:
    """Whether layers are on a GPU, and the types of keys and values."""
    target = engine._target
    assert isinstance(target, LlamaContext)
    return target.model.placement.gpu, target.options.type_k, target.options.type_v


def texts(engine: Engine) -> Iterator[tuple[int, ...]]:
    """Tokens of greedy and of seeded answers."""
    assert engine.measure(120)
    for prompt in PROMPTS:
        for temperature, seed in ((0.0, 0), (0.8, 3)):
            yield engine.generate(prompt, max_tokens=48, temperature=temperature, seed=seed).tokens


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (True, F16, F16)),
        ({"device": GPUS[0].name if GPUS else None}, (True, F16, F16)),
        ({"gpu_layers": 2}, (True, F16, F16)),
        ({"gpu_layers": 0}, (False, Q8_0, F16)),
        ({"device": "cpu"}, (False, Q8_0, F16)),
    ],
    ids=["default", "named", "two layers", "no layer", "cpu"],
)
def test_layers_are_placed_as_asked(settings: dict[str, object], expected: tuple[bool, int, int]) -> None:
    """Keys and values are those of where they lie, and the pair answers."""
    with localspec.load("tiny", ctx_size=512, **settings) as engine:  # type: ignore[arg-type]
        assert options(engine) == expected
        assert engine.generate("Once", max_tokens=8, temperature=0).tokens


@pytest.mark.parametrize("width", [4, 8])
def test_padded_passes_are_exact(width: int) -> None:
    """Any drafter gives the tokens of plain decoding with the same width."""
    found = {}
    for draft in ("none", "ngram", "auto"):
        with localspec.load("tiny", draft, ctx_size=512, exactness="require", pass_width=width) as engine:
            found[draft] = list(texts(engine))
            assert engine.exactness == "exact"
    assert found["ngram"] == found["none"]
    assert found["auto"] == found["none"]


def test_doctor_and_devices_name_the_gpu() -> None:
    """The GPU that is used is not called unused."""
    listed = json.loads(CliRunner().invoke(cli, ["devices", "--json"]).stdout)
    assert GPUS[0].name in [device["name"] for device in listed["devices"]]
    report = json.loads(CliRunner().invoke(cli, ["doctor", "--json", "-c", "512"]).stdout)
    assert report["build"]["unused"] == []
    assert GPUS[0].backend.lower() in report["build"]["backends"]
    assert GPUS[0].name in [device["name"] for device in report["machine"]["devices"]]
