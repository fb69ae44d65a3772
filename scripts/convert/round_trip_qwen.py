"""Take a published Qwen2.5 GGUF apart into a Hugging Face checkpoint, convert that, and compare the two files.

    python -m scripts.convert.round_trip_qwen qwen2.5-coder-0.5b-instruct-q4_k_m.gguf [--work DIR] [--threads N]

The checkpoint holds the dequantised values in F32, so that the file made from it must hold the very same values; the
original is written dequantised as well, and both answer three prompts greedily. Prints every key and tensor that
differs. Needs 10 GB of disk for the 0.5B.
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.quants import dequantize

import gguf_convert
import localspec

PROMPTS = (
    "def quicksort(items: list[int]) -> list[int]:\n",
    "The three laws of thermodynamics are",
    "// A thread-safe queue in C++\ntemplate <typename T>\nclass",
)
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
TOKENIZER = "tokenizer.ggml."


@dataclass(frozen=True)
class Original:
    """A GGUF file: its values by key, and its tensors."""

    values: dict[str, Any]
    tensors: list[Any]

    def arch(self, key: str) -> Any:
        return self.values[f"qwen2.{key}"]


def read(path: Path) -> Original:
    reader = gguf.GGUFReader(path)
    values = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    return Original(values, list(reader.tensors))


def floats(tensor: Any) -> np.ndarray:
    """The values of a stored tensor, outermost dimension first."""
    shape = tuple(int(size) for size in reversed(tensor.shape))
    return np.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), dtype="<f4").reshape(shape)


def checkpoint_name(name: str) -> str:
    """``blk.3.attn_q.bias`` → ``model.layers.3.self_attn.q_proj.bias``."""
    *block, base, kind = name.split(".")
    prefix = f"model.layers.{block[1]}." if block else ""
    return f"{prefix}{NAMES[base]}.{kind}"


def config(original: Original) -> dict[str, Any]:
    tied = all(tensor.name != "output.weight" for tensor in original.tensors)
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_act": "silu",
        "num_hidden_layers": original.arch("block_count"),
        "max_position_embeddings": original.arch("context_length"),
        "hidden_size": original.arch("embedding_length"),
        "intermediate_size": original.arch("feed_forward_length"),
        "num_attention_heads": original.arch("attention.head_count"),
        "num_key_value_heads": original.arch("attention.head_count_kv"),
        "rope_theta": original.arch("rope.freq_base"),
        "rms_norm_eps": original.arch("attention.layer_norm_rms_epsilon"),
        "vocab_size": len(original.values[TOKENIZER + "tokens"]),
        "bos_token_id": original.values[TOKENIZER + "bos_token_id"],
        "eos_token_id": original.values[TOKENIZER + "eos_token_id"],
        "tie_word_embeddings": tied,
        "torch_dtype": "float32",
    }


def tokenizer(original: Original) -> dict[str, Any]:
    tokens, types = original.values[TOKENIZER + "tokens"], original.values[TOKENIZER + "token_type"]
    kinds = gguf.TokenType
    vocab = {text: i for i, (text, kind) in enumerate(zip(tokens, types, strict=True)) if kind == kinds.NORMAL}
    added = [
        {"id": i, "content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": kind == kinds.CONTROL}
        for i, (text, kind) in enumerate(zip(tokens, types, strict=True))
        if kind in (kinds.CONTROL, kinds.USER_DEFINED)
    ]  # fmt: skip
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    cut = {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": False}
    merges = [merge.split(" ") for merge in original.values[TOKENIZER + "merges"]]
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [cut, byte_level]},
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {"type": "BPE", "byte_fallback": False, "ignore_merges": False, "vocab": vocab, "merges": merges},
    }


def settings(original: Original) -> dict[str, Any]:
    tokens = original.values[TOKENIZER + "tokens"]
    return {
        "add_bos_token": original.values[TOKENIZER + "add_bos_token"],
        "bos_token": None,
        "eos_token": tokens[original.values[TOKENIZER + "eos_token_id"]],
        "pad_token": tokens[original.values[TOKENIZER + "padding_token_id"]],
        "chat_template": original.values["tokenizer.chat_template"],
    }


def write_checkpoint(original: Original, folder: Path) -> None:
    """Everything that ``gguf_convert`` reads, tensors in one F32 safetensors file."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in (
        ("config.json", config(original)),
        ("tokenizer.json", tokenizer(original)),
        ("tokenizer_config.json", settings(original)),
    ):
        (folder / name).write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    header: dict[str, Any] = {}
    end = 0
    for tensor in original.tensors:
        shape = [int(size) for size in reversed(tensor.shape)]
        begin, end = end, end + 4 * int(tensor.n_elements)
        header[checkpoint_name(tensor.name)] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for tensor in original.tensors:
            stream.write(floats(tensor).data)


def write_dequantised(path: Path, original: Original, out: Path) -> None:
    """The original with its own metadata and F32 tensors."""
    writer = gguf.GGUFWriter(out, original.values["general.architecture"])
    for key, field in gguf.GGUFReader(path).fields.items():
        if key.startswith("GGUF.") or key in ("general.architecture", "general.file_type"):
            continue
        kind, inner = field.types[0], field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(key, field.contents(), kind, inner)
    writer.add_file_type(int(gguf.LlamaFileType.ALL_F32))
    for tensor in original.tensors:
        shape = tuple(int(size) for size in reversed(tensor.shape))
        kind = gguf.GGMLQuantizationType.F32
        writer.add_tensor_info(tensor.name, shape, np.dtype(np.float32), 4 * int(tensor.n_elements), kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in original.tensors:
        writer.write_tensor_data(floats(tensor))
    writer.close()


def different_keys(original: Original, made: Original) -> Iterator[str]:
    """A line for every key that only one file has, or that has another value."""
    for key in sorted(original.values.keys() | made.values.keys()):
        ours, theirs = made.values.get(key), original.values.get(key)
        if ours != theirs:
            yield f"  {key}: {shown(theirs)} → {shown(ours)}"


def shown(value: Any) -> str:
    text = "absent" if value is None else f"list of {len(value)}" if isinstance(value, list) else repr(value)
    return text if len(text) < 70 else text[:69] + "…"


def different_tensors(original: Original, made: Original) -> Iterator[str]:
    """A line for every tensor that differs in name, shape or any bit of a value."""
    found = {tensor.name: tensor for tensor in made.tensors}
    for tensor in original.tensors:
        other = found.pop(tensor.name, None)
        if other is None:
            yield f"  {tensor.name}: missing"
        elif tensor.shape.tolist() != other.shape.tolist():
            yield f"  {tensor.name}: {tensor.shape.tolist()} → {other.shape.tolist()}"
        elif floats(tensor).tobytes() != floats(other).tobytes():
            yield f"  {tensor.name}: values differ"
    yield from (f"  {name}: only in ours" for name in found)


def answers(path: Path, count: int, threads: int) -> list[list[int]]:
    with localspec.load(str(path), draft="none", ctx_size=256, threads=threads) as model:
        return [list(model.generate(prompt, max_tokens=count, temperature=0).tokens) for prompt in PROMPTS]


def report(title: str, lines: list[str]) -> None:
    print(f"{title}: {len(lines) or 'none'}")
    print("\n".join(lines), end="\n" if lines else "")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--work", type=Path, default=Path("/tmp/round-trip"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=64)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    original = read(args.file)
    checkpoint, whole, made = args.work / args.file.stem, args.work / "original-f32.gguf", args.work / "made-f32.gguf"
    write_checkpoint(original, checkpoint)
    write_dequantised(args.file, original, whole)
    done = gguf_convert.convert(checkpoint, made, "F32", force=True)
    print(f"{args.file.name}: {done.tensors} tensors, notes: {list(done.notes)}")
    copy = read(made)
    keys, tensors = list(different_keys(original, copy)), list(different_tensors(original, copy))
    report("Keys that differ (original → made again)", keys)
    report("Tensors that differ", tensors)
    first, second = (answers(path, args.tokens, args.threads) for path in (whole, made))
    same = sum(a == b for a, b in zip(first, second, strict=True))
    print(
        f"Greedy answers of {args.tokens} tokens, dequantised original against ours: {same} of {len(PROMPTS)} the same"
    )
    return 0 if same == len(PROMPTS) and not tensors else 1


if __name__ == "__main__":
    sys.exit(main())
