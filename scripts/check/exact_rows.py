"""Find the files whose rows of a batch equal single rows, at the real widths of Gemma 4 E2B.

Makes a random checkpoint of a few layers in a temporary folder, converts it in several ways, and compares logits of
n = 2…16 tokens decoded at once with those of the same tokens decoded one by one, bit for bit, for several random drafts
after the same text. Prints a table.

    python -m scripts.check.exact_rows [--threads 2] [--layers 4] [--lengths 100 600] [--drafts 8] [--also FILE ...]
"""

from __future__ import annotations

import argparse
import json
import struct
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import gguf_convert
from gguf_convert.recipes import make_recipe
from localspec.gguf.header import read_header
from localspec.llama.context import LlamaContext
from localspec.llama.model import LlamaModel
from localspec.params import ContextParams
from tests.helpers import tiny_checkpoint as tiny

WIDEST = 16
#: The widths of E2B (MLPs of shared layers are twice as wide), with fewer layers and tokens.
WIDTHS = {
    "vocab_size": 8192, "vocab_size_per_layer_input": 8192, "hidden_size": 1536, "hidden_size_per_layer_input": 256,
    "intermediate_size": 6144, "num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 256,
    "global_head_dim": 512, "sliding_window": 512, "max_position_embeddings": 4096,
}  # fmt: skip
#: The experts of 26B-A4B, of which it has 128.
EXPERTS = {"enable_moe_block": True, "top_k_experts": 8, "moe_intermediate_size": 704, "hidden_size": 2816}
#: The exact recipe as llama-quantize can make it: it never touches per_layer_model_proj.
_ALL_BUT_PROJ = [("^token_embd", "Q8_0"), (".", "Q4_0")]


def write_checkpoint(folder: Path, layers: int, experts: int = 0) -> None:
    """A checkpoint of random BF16 matrices scaled to keep activations near 1, written tensor by tensor."""
    kinds = ["sliding_attention", "full_attention"] * (layers // 2)
    config = tiny.text_config(
        **(WIDTHS | (EXPERTS | {"num_experts": experts} if experts else {})),
        num_hidden_layers=layers,
        layer_types=kinds,
        num_kv_shared_layers=layers - max(2, layers // 4 * 2),
    )
    tiny.write(folder, config, weights={}, vocabulary=vocabulary(config["vocab_size"]))
    write_tensors(folder, dict(tensor_shapes(config)))


def write_tensors(folder: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """Random BF16 tensors: vectors near 1, matrices scaled to keep activations near 1."""
    header: dict[str, Any] = {}
    at = 0
    for name, shape in shapes.items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    random = np.random.default_rng(0)
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for shape in shapes.values():
            scale, middle = (0.1, 1.0) if len(shape) == 1 else (shape[-1] ** -0.5, 0.0)
            values = random.standard_normal(shape, np.float32) * np.float32(scale) + np.float32(middle)
            stream.write(tiny.to_bfloat16(values).tobytes())


def tensor_shapes(config: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every tensor of a checkpoint with per-layer inputs."""
    vocab, width, inner = config["vocab_size"], config["hidden_size"], config["hidden_size_per_layer_input"]
    count = config["num_hidden_layers"]
    yield "model.embed_tokens.weight", (vocab, width)
    yield "model.norm.weight", (width,)
    yield "model.embed_tokens_per_layer.weight", (vocab, count * inner)
    yield "model.per_layer_model_projection.weight", (count * inner, width)
    yield "model.per_layer_projection_norm.weight", (inner,)
    for index in range(count):
        for name, shape in tiny._layer_shapes(config, index).items():
            yield f"model.layers.{index}.{name}", shape


def vocabulary(size: int) -> dict[str, Any]:
    """The tiny tokenizer, filled up with words that nothing merges to."""
    made = tiny.tokenizer()
    known = made["model"]["vocab"]
    made["model"]["vocab"] = {**known, **{f"word{i}": i for i in range(len(known), size)}}
    return made


def files(folder: Path) -> dict[str, Callable[[Path], object]]:
    """Recipes of the files of the table, from the checkpoint or from its BF16 or F32 file."""
    bf16, f32 = folder / "bf16.gguf", folder / "f32.gguf"
    gguf_convert.convert(folder / "in", bf16, "BF16")
    gguf_convert.convert(folder / "in", f32, "F32")

    def quantize(source: Path, **options: Any) -> Callable[[Path], object]:
        return lambda out: gguf_convert.quantize(source, out, **options)

    return {
        "convert --exact": lambda out: gguf_convert.convert(folder / "in", out, exact=True),
        "quantize --exact": quantize(bf16, exact=True),
        "quantize --exact --type Q8_0": quantize(bf16, exact=True, type="Q8_0"),
        "exact but for per_layer_model_proj in BF16": quantize(bf16, type="Q4_0", overrides=_ALL_BUT_PROJ),
        "exact but for per_layer_model_proj in F32": quantize(f32, type="Q4_0", overrides=_ALL_BUT_PROJ),
        "llama-quantize Q4_0 (head Q6_K, proj BF16)": quantize(bf16, type="Q4_0"),
        "llama-quantize Q8_0 (proj BF16)": quantize(bf16, type="Q8_0"),
        "llama-quantize Q4_K_M": quantize(bf16, type="Q4_K_M"),
        "F16": quantize(bf16, type="F16"),
    }


@dataclass
class Outcome:
    """Of ``drafts`` random drafts after a text of ``length``: how many had equal rows at every n, and the rest."""

    length: int
    drafts: int
    equal: int = 0
    narrowest: int | None = None  # the smallest n with a row that differs
    worst: float = 0.0  # the largest difference of a logit

    def __str__(self) -> str:
        first = "" if self.narrowest is None else f" (from n = {self.narrowest})"
        return f"{self.length} | {self.equal} of {self.drafts}{first} | {self.worst:.2g}"


def probe(path: Path, lengths: Sequence[int], drafts: int, threads: int) -> Iterator[Outcome]:
    """Compare, for each length, rows of n = 2…16 tokens decoded at once with single rows."""
    params = ContextParams(ctx_size=1024, threads=threads, device="none", verify_width=WIDEST)
    model = LlamaModel(read_header(path), params)
    context = LlamaContext(model, params, 1024)
    random = np.random.default_rng(1)
    text = random.integers(300, 8000, max(lengths)).tolist()
    for length in sorted(lengths):
        outcome = Outcome(length, drafts)
        for start in range(len(context.tokens), length, params.batch):
            context.decode(text[start : min(length, start + params.batch)], "none")
        for _ in range(drafts):
            compare(context, length, random.integers(300, 8000, WIDEST).tolist(), outcome)
        yield outcome
    context.close()
    model.close()


def compare(context: LlamaContext, length: int, draft: list[int], outcome: Outcome) -> None:
    single = np.concatenate([context.decode([token]).copy() for token in draft])
    different = []
    for n in range(2, WIDEST + 1):
        context.rewind(length)
        rows = context.decode(draft[:n])
        if not np.array_equal(rows, single[:n]):
            different.append(n)
            outcome.worst = max(outcome.worst, float(np.abs(rows - single[:n]).max()))
    context.rewind(length)
    outcome.equal += not different
    if different:
        outcome.narrowest = min(different[0], outcome.narrowest or WIDEST)


def report(name: str, path: Path, arguments: argparse.Namespace) -> None:
    for outcome in probe(path, arguments.lengths, arguments.drafts, arguments.threads):
        print(f"| {name} | {outcome} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--lengths", type=int, nargs="+", default=[100, 600])
    parser.add_argument("--experts", type=int, default=0, help="experts of a layer, at 26B-A4B's widths of them")
    parser.add_argument("--drafts", type=int, default=8)
    parser.add_argument("--also", type=Path, nargs="*", default=[], help="GGUF files to look at as well")
    arguments = parser.parse_args()
    print(f"recipe: {make_recipe(exact=True)}\n")
    print("| file | tokens before | drafts with all rows equal | largest difference of a logit |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_checkpoint(folder / "in", arguments.layers, arguments.experts)
        for label, make in files(folder).items():
            path = folder / "probe.gguf"
            make(path)
            report(label, path, arguments)
            path.unlink()
    for path in arguments.also:
        report(path.name, path, arguments)


if __name__ == "__main__":
    main()
