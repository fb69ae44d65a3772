#!/usr/bin/env python3
"""Compare gguf_convert with llama.cpp's own converter, byte for byte, on the stored reference checkpoints.

    python -m scripts.convert.compare_converters --llama-cpp DIR --python TORCH_PYTHON [--reference DIR] [--only PREFIX]

DIR is a source tree of llama.cpp; TORCH_PYTHON an interpreter with torch and transformers, in which its converter
runs. It knows a tokenizer by a hash, and the small ones here are unknown to it: it is told the pre-tokenizer's name
that gguf_convert found, and not to look for SentencePiece files. Prints what differs, and counts what does not.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import gguf

import gguf_convert
from tests.helpers import parity
from tests.helpers.paths import REFERENCE

TYPES = ("F32", "F16", "BF16", "Q8_0")
THEIRS = """
import runpy, sys
root, pre, source, out, kind = sys.argv[1:]
from conversion.base import TextModel

def missing(self, *args, **kwargs):
    raise FileNotFoundError

TextModel.get_vocab_base_pre = lambda self, tokenizer: pre
TextModel._set_vocab_sentencepiece = TextModel._set_vocab_llama_hf = missing
sys.argv = ["convert_hf_to_gguf.py", source, "--outfile", out, "--outtype", kind]
runpy.run_path(root + "/convert_hf_to_gguf.py", run_name="__main__")
"""


def fields(reader: Any) -> dict[str, Any]:
    return {key: (field.types, field.contents()) for key, field in reader.fields.items() if not key.startswith("GGUF.")}


def tensors(reader: Any) -> dict[str, Any]:
    return {
        tensor.name: (tensor.tensor_type.name, tensor.shape.tolist(), tensor.data.tobytes())
        for tensor in reader.tensors
    }


def short(entry: Any) -> str:
    text = "nothing" if entry is None else repr(entry[1])
    return text if len(text) < 60 else text[:59] + "…"


def compare(name: str, kind: str, options: argparse.Namespace, folder: Path) -> None:
    source, ours, theirs = options.reference / name, folder / "ours.gguf", folder / "theirs.gguf"
    gguf_convert.convert(source, ours, kind, force=True)
    mine = gguf.GGUFReader(ours)
    pre = fields(mine).get("tokenizer.ggml.pre", (None, "default"))[1]
    theirs.unlink(missing_ok=True)
    line = [str(options.python), "-c", THEIRS, str(options.llama_cpp), pre, str(source), str(theirs), kind.lower()]
    path = os.pathsep.join([str(options.llama_cpp), str(options.llama_cpp / "gguf-py")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        print(f"{name} {kind}: llama.cpp's converter failed: {done.stderr.strip().splitlines()[-1]}")
        return
    other = gguf.GGUFReader(theirs)
    report(f"{name} {kind}", "key", fields(mine), fields(other))
    report(f"{name} {kind}", "tensor", tensors(mine), tensors(other))


def report(title: str, what: str, mine: dict[str, Any], other: dict[str, Any]) -> None:
    names = sorted(mine.keys() | other.keys())
    equal = [name for name in names if name in mine and mine.get(name) == other.get(name)]
    print(f"{title}: {len(equal)} of {len(names)} {what}s equal")
    for name in names:
        if name not in equal:
            print(f"  {name}: {short(mine.get(name))} here, {short(other.get(name))} there")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama-cpp", type=Path, required=True)
    parser.add_argument("--python", type=Path, default=Path(sys.executable))
    parser.add_argument("--reference", type=Path, default=REFERENCE, help="folder of the references")
    parser.add_argument("--only", default="", help="only references whose names begin with this")
    parser.add_argument("--types", nargs="+", default=TYPES)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in parity.references(options.reference):
            if name.startswith(options.only):
                for kind in options.types:
                    compare(name, kind, options, Path(folder))


if __name__ == "__main__":
    main()
