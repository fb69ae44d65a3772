"""Laws of cache types: what is impossible is refused first, what is possible is exact, or it is said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import localspec
from localspec.errors import UsageError
from localspec.gguf.header import read_header
from localspec.llama.binding import bindings
from localspec.llama.context import LlamaContext
from localspec.llama.model import LlamaModel
from localspec.memory.cache_types import cache_notice, check_cache_types
from localspec.memory.estimate import MIB, layer_caches, model_memory
from localspec.models.resolve import TINY_TARGET
from localspec.params import CACHE_TYPES, ContextParams
from tests.memory.test_estimate import reported

HEADER = read_header(TINY_TARGET)


@pytest.mark.parametrize("name", ["cache_type_k", "cache_type_v"])
def test_head_that_blocks_do_not_divide_is_refused(name: str) -> None:
    """Before llama.cpp sees it; types without blocks fit every head."""
    option = "attention.key_length" if name.endswith("k") else "attention.value_length"
    odd = replace(HEADER, metadata={**HEADER.metadata, f"{HEADER.architecture}.{option}": 80})
    for kind in CACHE_TYPES:
        params = ContextParams(**{name: kind})  # type: ignore[arg-type]
        check_cache_types(HEADER, params)
        if kind in ("f32", "f16", "bf16"):
            check_cache_types(odd, params)
        else:
            with pytest.raises(UsageError, match=rf"{name} is {kind}.* 80; use f16"):
                check_cache_types(odd, params)


@pytest.mark.parametrize("wrong", ["q9_9", "Q8_0", "", 8, "q4_k"])
def test_other_types_are_refused_with_a_list(wrong: object) -> None:
    """With those that there are."""
    with pytest.raises(UsageError, match=r"cache_type_k is .*q8_0"):
        localspec.load("tiny", cache_type_k=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("keys", "values", "threads"),
    [("f16", "f16", 2), ("f32", "f16", 2), ("f16", "bf16", 2), ("q4_0", "f16", 1), ("q5_1", "iq4_nl", 1)],
)
def test_rows_of_passes_equal_single_ones_or_it_is_said(keys: str, values: str, threads: int) -> None:
    """Beyond 512 tokens on the CPU: with keys and values in f16 or f32, threads split the sums of single rows."""
    params = ContextParams(cache_type_k=keys, cache_type_v=values, threads=threads, device="none")
    model = LlamaModel(HEADER, params)
    context = LlamaContext(model, params, 640)
    tokens = [7 + i % 300 for i in range(604)]
    for start in range(0, 600, 60):
        context.decode(tokens[start : start + 60], "last")
    rows = context.decode(tokens[600:]).copy()
    context.rewind(600)
    single = np.concatenate([context.decode([token]).copy() for token in tokens[600:]])
    context.close()
    model.close()
    assert np.array_equal(rows, single) == (cache_notice(params, gpu=False) is None)


def test_cost_in_exactness_is_said_where_it_is_known() -> None:
    """Not on a GPU, whose default is F16 and which is probed."""
    notice = cache_notice(ContextParams(cache_type_k="f16"), gpu=False)
    assert notice is not None
    assert "not exact" in notice
    assert cache_notice(ContextParams(cache_type_k="f16"), gpu=True) is None
    assert cache_notice(ContextParams(cache_type_v="f16"), gpu=False) is None  # keys stay Q8_0
    assert cache_notice(ContextParams(), gpu=False) is None


@pytest.mark.parametrize(("keys", "values"), [("q4_0", "q5_1"), ("bf16", "iq4_nl"), ("f32", "q4_1")])
def test_cache_takes_the_memory_that_is_estimated(keys: str, values: str, capfd: pytest.CaptureFixture[str]) -> None:
    """As llama.cpp reports it."""
    params = ContextParams(cache_type_k=keys, cache_type_v=values, threads=1, device="none")
    model = LlamaModel(HEADER, params, verbose=True)
    LlamaContext(model, params, 2048).close()
    log = capfd.readouterr().err
    model.close()
    assert model_memory([HEADER], params, 2048, {}).cache / MIB == pytest.approx(reported(log, "KV buffer"), abs=0.02)
    gpu = layer_caches([HEADER], 256, gpu=True, params=params)
    assert gpu == layer_caches([HEADER], 256, params=params)


def test_drafting_on_chosen_types_is_exact() -> None:
    """The text is that of the same types without a drafter; verdicts and saved caches are those of the types."""
    texts, settings = {}, set()
    for kind in (None, "q4_0"):
        options = {"cache_type_k": kind, "cache_type_v": kind, "threads": 1, "ctx_size": 256, "gpu_layers": 0}
        for draft in ("auto", "none"):
            with localspec.load("tiny", draft, exactness="require", **options) as llm:  # type: ignore[arg-type]
                done = llm.generate("Once upon a time", max_tokens=60, temperature=0.0)
                assert done.exactness == "exact"
                texts[kind, draft] = done.text
                settings.add((kind, llm._target.identity()))  # type: ignore[attr-defined]
    assert texts[None, "auto"] == texts[None, "none"]
    assert texts["q4_0", "auto"] == texts["q4_0", "none"]
    assert len({identity for _, identity in settings}) == 2


def test_off_has_the_cache_types_and_the_passes_of_llama_server() -> None:
    """llama.cpp's own defaults, which the estimate of memory knows, without a notice. A type that is chosen stays."""
    defaults = bindings().llama_context_default_params()
    found = {}
    for mode in ("off", "prefer"):
        with localspec.load("tiny", exactness=mode, ctx_size=512, threads=1, mmproj="none") as llm:  # type: ignore[arg-type]
            target = llm._target
            assert isinstance(target, LlamaContext)
            options = target.options
            found[mode] = options.type_k, options.type_v, options.n_ubatch
            assert not llm.notices
    assert found["off"] == (defaults.type_k, defaults.type_v, defaults.n_ubatch)
    assert found["prefer"] != found["off"]
    with localspec.load("tiny", exactness="off", ctx_size=512, threads=1, cache_type_k="q4_0") as llm:
        assert "type_k=2 " in llm._target.settings()  # type: ignore[attr-defined]
    fast, named = ContextParams(fast=True), ContextParams(cache_type_k="f16", cache_type_v="f16")
    assert layer_caches([HEADER], 512, params=fast) == layer_caches([HEADER], 512, params=named)
