"""Laws of the memory estimate: it equals the sums that llama.cpp logs, and else the memory of the process."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import gguf_convert
from localspec.gguf.header import GgufHeader, TensorInfo, read_header
from localspec.llama import binding
from localspec.llama.context import LlamaContext
from localspec.llama.heads import LlamaHeadContext
from localspec.llama.model import LlamaModel
from localspec.llama.mtp import LlamaMtpContext
from localspec.memory.estimate import (
    BASE,
    MIB,
    ModelMemory,
    layer_caches,
    layer_weights,
    model_memory,
    n_cells,
    n_vocab,
    peak,
    private,
    repacked_types,
)
from localspec.memory.fit import LoadRequest
from localspec.models.resolve import TINY_ASSISTANT, TINY_TARGET
from localspec.params import ContextParams
from tests.helpers.made_headers import F32, Q4_0, Q4_K, Q8_0, made
from tests.helpers.paths import REFERENCE
from tests.helpers.random_models import random_model

PARAMS = ContextParams(device="none", threads=1)
X86, ARM = "CPU : AVX2 = 1 | REPACK = 1 | ", "CPU : NEON = 1 | MATMUL_INT8 = 1 | DOTPROD = 1 | REPACK = 1 |"


def reported(log: str, what: str) -> float:
    """MiB in all lines of llama.cpp's log that contain ``what``."""
    return sum(float(size) for size in re.findall(rf"{what} +(?:buffer )?size = +([\d.]+) MiB", log))


FAMILIES = ("gemma4_e2b", "gemma4_26b_a4b", "gemma4_31b", "gemma3_4b", "qwen3_8b", "llama_untied", "smollm3_3b")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_summed_as_llama_cpp_does(
    family: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Shared, sliding, expert and tied layers, and which matrices this CPU copies."""
    gguf_convert.convert(REFERENCE / family, tmp_path / "made.gguf", "Q4_0")
    model = LlamaModel(read_header(tmp_path / "made.gguf"), PARAMS, verbose=True)
    context = LlamaContext(model, PARAMS, 2048)
    log = capfd.readouterr().err
    context.close()
    model.close()
    found = model_memory([model.header], PARAMS, 2048, repacked_types(binding.system_info()))
    assert found.cache / MIB == pytest.approx(reported(log, "KV buffer"), abs=0.02)
    assert found.mapped / MIB == pytest.approx(reported(log, "CPU_Mapped model buffer"), abs=0.01)
    assert found.repacked / MIB == pytest.approx(reported(log, "CPU_REPACK model buffer"), abs=0.01)
    assert found.compute / MIB == pytest.approx(reported(log, "CPU compute buffer"), rel=0.1)


def test_parts_are_those_that_llama_cpp_reports(capfd: pytest.CaptureFixture[str]) -> None:
    """Mapped weights, cache and rows, of a file with sliding, full and shared layers."""
    model = LlamaModel(read_header(TINY_TARGET), PARAMS, verbose=True)
    context = LlamaContext(model, PARAMS, 2048)
    log = capfd.readouterr().err
    context.close()
    model.close()
    found = model_memory([model.header], PARAMS, 2048, repacked_types(binding.system_info()), rows=1)
    assert found.cache / MIB == pytest.approx(reported(log, "KV buffer"), abs=0.02)
    assert found.mapped / MIB == pytest.approx(reported(log, "CPU_Mapped model buffer"), abs=0.01)
    assert found.repacked / MIB == pytest.approx(reported(log, "CPU_REPACK model buffer"), abs=0.01)
    assert found.rows / MIB == pytest.approx(reported(log, "output buffer"), abs=0.01)
    reserved = model_memory([model.header], PARAMS, 2048, {}, rows=64).compute / MIB
    assert reserved == pytest.approx(reported(log, "CPU compute buffer"), abs=3)


def test_assistant_has_no_cache_of_its_own(capfd: pytest.CaptureFixture[str]) -> None:
    """It reads the target's."""
    target = LlamaModel(read_header(TINY_TARGET), PARAMS)
    context = LlamaContext(target, PARAMS, 256, hidden=True)
    model = LlamaModel(read_header(TINY_ASSISTANT), PARAMS, verbose=True)
    capfd.readouterr()
    LlamaMtpContext(model, PARAMS, context).close()
    log = capfd.readouterr().err
    for opened in (context, model, target):
        opened.close()
    found = model_memory([model.header], PARAMS, 256, {}, rows=1, assistant=True)
    assert found.cache == 0
    assert reported(log, "KV buffer") == 0


@pytest.mark.skipif(sys.platform != "linux", reason="what a process has resident is told in another way elsewhere")
def test_estimate_is_within_a_tenth_of_the_peak() -> None:
    """Of a fresh process that loads the built-in pair, which was measured before, and writes a few tokens."""
    code = (
        "import localspec\n"
        "with localspec.load('tiny', ctx_size=2048, threads=1) as llm:\n"
        "    llm.generate('Once upon a time ' * 100, max_tokens=40, temperature=0)\n"
        "print([line for line in open('/proc/self/status') if line.startswith('VmHWM')][0].split()[1])"
    )
    for _ in range(4):  # the first ones measure the pair, in contexts of their own: again if programs disturbed it
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    repacks = repacked_types(binding.system_info())
    target = model_memory([read_header(TINY_TARGET)], PARAMS, 2048, repacks, rows=32)
    drafter = model_memory([read_header(TINY_ASSISTANT)], PARAMS, 2048, repacks, rows=1, assistant=True)
    assert peak(target, drafter) == pytest.approx(int(done.stdout) * 1024, rel=0.1)


def test_cache_grows_by_whole_steps() -> None:
    """Of 256 cells, with room to verify a last draft."""
    assert [n_cells(n, ContextParams()) for n in (1, 192, 193, 2048)] == [256, 256, 512, 2304]
    small, large = (sum(layer_caches([made()], n)) for n in (256, 1024))
    assert large == 4 * small == 1024 * 4 * 2 * (64 * 34 // 32 + 64 * 2)


def test_gpu_keeps_wider_keys() -> None:
    """F16 in place of Q8_0; so does a CPU where a head is no multiple of 32."""
    assert layer_caches([made()], 256, gpu=True) == [256 * 2 * (128 + 128)] * 4
    assert layer_caches([made(attention__key_length=48)], 256) == [256 * 2 * (96 + 128)] * 4


def test_layers_have_what_their_own_numbers_say() -> None:
    """Heads layer by layer, smaller heads where the window slides, nothing where the cache is another layer's."""
    assert layer_caches([made(attention__head_count_kv=(1, 2, 0, 4))], 256, gpu=True) == [
        256 * n * 256 for n in (1, 2, 0, 4)
    ]
    sliding = made(attention__sliding_window_pattern=(True, False, True, False), attention__key_length_swa=32)
    assert layer_caches([sliding], 256, gpu=True) == [256 * 2 * n for n in (192, 256, 192, 256)]
    assert layer_caches([made(attention__shared_kv_layers=3)], 256, gpu=True) == [256 * 2 * 256, 0, 0, 0]


def test_latent_cache_has_no_values() -> None:
    """Multi-head latent attention computes them from the keys."""
    mla = made(attention__key_length=576, attention__key_length_mla=192, attention__head_count_kv=1)
    assert layer_caches([mla], 256, gpu=True) == [256 * 576 * 2] * 4


def test_recurrent_layers_have_no_cache() -> None:
    """Those without keys, or with the joint matrix of a linear attention."""
    tensors = {
        "blk.0.ssm_out.weight": ((64, 64), F32),
        "blk.1.attn_k.weight": ((64, 64), F32),
        "blk.2.attn_qkv.weight": ((64, 64), F32),
        "blk.2.ssm_a": ((64,), F32),
        "blk.3.attn_qkv.weight": ((64, 64), F32),
    }
    assert [size > 0 for size in layer_caches([made(tensors)], 256)] == [False, True, False, True]


@pytest.mark.parametrize("architecture", ["qwen35", "glm4moe", "step35"])
@pytest.mark.parametrize("heads", [True, False])
def test_prediction_heads_take_memory_where_they_draft(
    architecture: str, heads: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Their cells are in a context of their own. They are not loaded for lookup or for plain decoding."""
    count = 2 if architecture == "step35" else 1
    header = read_header(random_model(tmp_path / "made.gguf", architecture, heads=count))
    model = LlamaModel(header, PARAMS, heads=heads, verbose=True)
    context = LlamaContext(model, PARAMS, 2048, keeps_rows=heads)
    if heads:
        LlamaHeadContext(model, PARAMS, context).close()
    log = capfd.readouterr().err
    context.close()
    model.close()
    request = LoadRequest.from_headers(header, None, "heads" if heads else "ngram")
    caches = sum(layer_caches(request.target.headers, n_cells(2048, PARAMS), params=PARAMS))
    assert caches / MIB == pytest.approx(reported(log, "KV buffer"), abs=0.02)
    assert request.target.n_layers == 4 + count + 1
    assert (sum(layer_weights(request.target.headers)) == sum(layer_weights([header]))) == heads


MATRICES = {
    "token_embd.weight": ((256, 1024), Q4_0),
    "blk.0.attn_k.weight": ((256, 64), Q4_0),
    "blk.0.attn_norm.weight": ((256,), F32),
    "blk.1.attn_k.weight": ((256, 12), Q4_0),
    "blk.2.ffn_up_exps.weight": ((256, 64, 8), Q4_K),
    "blk.3.attn_k.weight": ((256, 64), Q8_0),
}


def sized(shape: tuple[int, ...], kind: int) -> int:
    return TensorInfo("", shape, kind, 0).bytes or 0


def memory(header: GgufHeader, info: str, **changes: Any) -> ModelMemory:
    return model_memory([header], PARAMS, 256, repacked_types(info), **changes)


def test_repacked_matrices_count_twice() -> None:
    """Those of the CPU's types and rows, and a tied embedding for its use as the output."""
    copied = sized((256, 1024), Q4_0) + sized((256, 64), Q4_0) + sized((256, 64, 8), Q4_K)
    assert memory(made(MATRICES), X86).repacked == copied
    rest = sized((256, 12), Q4_0) + sized((256, 64), Q8_0)  # four rows are enough for ARM's Q4_0 and Q8_0
    assert memory(made(MATRICES), ARM).repacked == copied + rest
    assert memory(made(MATRICES), X86.replace("REPACK = 1", "REPACK = 0")).repacked == 0
    assert memory(made(MATRICES | {"output.weight": ((256, 1024), F32)}), X86).repacked == copied - sized(
        (256, 1024), Q4_0
    )


def test_mapping_reaches_from_the_first_to_the_last_tensor_in_place() -> None:
    """Copied ones between them stay mapped, those outside do not."""
    tensors = {"blk.0.attn_q.weight": ((256, 64), Q4_0), "blk.0.attn_norm.weight": ((256,), F32)}
    copied, norm = sized((256, 64), Q4_0), sized((256,), F32)
    tail = {"blk.1.attn_q.weight": ((256, 64), Q4_0), "output_norm.weight": ((256,), F32)}
    assert memory(made(tensors), X86).mapped == norm
    assert memory(made(tensors | tail), X86).mapped == 2 * norm + copied
    assert memory(made(tensors | tail), "").mapped == 2 * (norm + copied)
    assert memory(made(tensors), X86).file == 1000 + norm + copied


def test_split_file_is_the_sum_of_its_parts() -> None:
    """Numbers from the first, tensors from all."""
    items = list(MATRICES.items())
    parts = [made(dict(items[:2])), made(dict(items[2:]))]
    whole, split = made(MATRICES), model_memory(parts, PARAMS, 256, repacked_types(X86))
    assert split.repacked == memory(whole, X86).repacked
    assert split.file == memory(whole, X86).file + 1000
    assert layer_weights(parts) == layer_weights([whole])
    assert n_vocab(parts) == 1024


def test_weights_are_those_of_layers_and_the_output() -> None:
    """A tied embedding is copied for the output; an embedding by itself stays where it is."""
    found = layer_weights([made(MATRICES)])
    assert found == [
        sized((256, 64), Q4_0) + 1024,
        sized((256, 12), Q4_0),
        sized((256, 64, 8), Q4_K),
        sized((256, 64), Q8_0),
        sized((256, 1024), Q4_0),
    ]
    untied = layer_weights([made(MATRICES | {"output.weight": ((256, 1024), F32)})])
    assert untied == [*found[:4], sized((256, 1024), F32)]


def test_rows_cost_what_a_vocabulary_is_wide() -> None:
    """Logits, in the rows given and in the buffer that they are computed in."""
    few, many = (memory(made(tokens=100_000), X86, rows=rows) for rows in (1, 64))
    assert many.rows - few.rows == 63 * 100_000 * 4
    assert many.compute >= many.rows > few.compute


def test_peak_is_the_highest_of_its_stages() -> None:
    """A file that is read and not kept, a drafter that is read while the target waits, or both in use."""
    use = ModelMemory(file=10, mapped=5, repacked=3, cache=2, compute=4, rows=1, vocabulary=1)
    assert peak(use) == BASE + use.resident == BASE + 16
    assert peak(replace(use, file=100)) == BASE + 104
    assert peak(use, use) == BASE + 32
    assert peak(use, replace(use, file=100)) == BASE + 12 + 104
    assert private(use, use) == BASE + 22


def test_damaged_numbers_give_a_number() -> None:
    """Negative, missing and of the wrong kind: read_header refuses most of them, and none may stop an estimate."""
    odd = made(
        MATRICES, block_count=-3, embedding_length=-1, attention__head_count=0, feed_forward_length=(1, 2),
        attention__key_length=-5, attention__head_count_kv=(True,), attention__sliding_window_pattern="no",
    )  # fmt: skip
    assert memory(odd, X86).resident > 0
    assert memory(GgufHeader(Path("x"), {}, {}, ()), X86).resident >= 0
