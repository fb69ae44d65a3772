#!/usr/bin/env python3
"""Compares the predicted memory of a load with the peak resident memory of a process.

    python -m scripts.bench.memory_estimates [--folder ~/.cache/localspec-eval] [--only 8192] [--tokens 48]

Each load is done in a process of its own, with an empty cache of localspec's, so that the probe of exactness and the
measurement of costs are in it; it reads a prompt of 700 tokens (of fewer, if there is no room) and writes some. Linux:
the peak is VmHWM, in which pages of the mapped files are. Memory is no timing, so other programs may run beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from localspec.gguf.header import read_header
from localspec.memory.fit import LoadRequest, LoadSettings, choose_settings
from localspec.memory.machine import read_machine
from localspec.models.pairing import is_assistant
from localspec.models.resolve import TINY_ASSISTANT, resolve_model
from localspec.params import ContextParams

_MIB = 1 << 20
_QWEN = "qwen2.5-coder-{}-instruct-{}.gguf"
BIG, SMALL, BIG_K = _QWEN.format("1.5b", "q4_0"), _QWEN.format("0.5b", "q4_0"), _QWEN.format("1.5b", "q4_k_m")
#: Target, drafter and tokens of context.
CASES = (
    ("tiny", "auto", 2048), ("tiny", "none", 2048), ("gemma-3-270m-q4_k_m.gguf", "ngram", 2048),
    ("gemma-3-270m-q4_k_m.gguf", "none", 8192), (SMALL, "none", 2048), (BIG, SMALL, 2048), (BIG, SMALL, 8192),
    (BIG_K, "none", 2048), (BIG_K, SMALL, 8192), (BIG_K, "ngram", 16384),
)  # fmt: skip
_PROMPT = "The river rises in the hills above the town and runs for forty miles before it meets the sea. " * 60
_CHILD = f"""
import json, os, sys
import localspec
target, draft, ctx, most = json.loads(sys.argv[1])
with localspec.load(target, draft, ctx_size=ctx, threads=1) as llm:
    prompt = llm.detokenize(llm.tokenize({_PROMPT!r})[: min(700, ctx - most - 8)])
    done = llm.generate(prompt, max_tokens=most, temperature=0)
    llm.measure()
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({{"peak": int(status["VmHWM"].split()[0]) * 1024, "tokens": len(done.tokens)}}))
"""


def predicted(target: str, draft: str, ctx: int) -> LoadSettings:
    """Predict as :func:`localspec.load` does before it starts."""
    path = TINY_ASSISTANT if (target, draft) == ("tiny", "auto") else None
    if path is None and draft not in ("none", "ngram"):
        path = resolve_model(draft)
    drafter = read_header(path) if path else None
    kind = draft if drafter is None else "mtp" if is_assistant(drafter) else "model"
    request = LoadRequest.from_headers(read_header(resolve_model(target)), drafter, kind)
    return choose_settings(request, ContextParams(ctx_size=ctx, device="none"), read_machine())


def measured(target: str, draft: str, ctx: int, tokens: int) -> int:
    """Return the peak bytes of a new process."""
    with tempfile.TemporaryDirectory() as cache:
        environment: dict[str, Any] = {**os.environ, "LOCALSPEC_CACHE": cache, "OMP_NUM_THREADS": "1"}
        job = json.dumps([target, draft, ctx, tokens])
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, job], env=environment, capture_output=True, text=True, check=False
        )
    if done.returncode != 0:
        raise SystemExit(f"{target} with {draft}: {done.stderr.strip()[-500:]}")
    return int(json.loads(done.stdout.splitlines()[-1])["peak"])


def short(name: str) -> str:
    """Shorten a file's name."""
    return re.sub(r"qwen2\.5-coder-|-instruct|\.gguf", "", Path(name).name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("~/.cache/localspec-eval").expanduser())
    parser.add_argument("--only", type=int, help="only the loads with this context")
    parser.add_argument("--tokens", type=int, default=48, help="tokens to write")
    arguments = parser.parse_args()
    print(f"{'target':<20} {'drafter':<12} {'context':>7} {'predicted':>10} {'measured':>9} {'ratio':>6}  MiB")
    worst = 0.0
    for target, draft, ctx in CASES:
        model, drafter = (str(arguments.folder / name) if name.endswith(".gguf") else name for name in (target, draft))
        missing = any("/" in file and not Path(file).exists() for file in (model, drafter))
        if missing or (arguments.only and ctx != arguments.only):
            continue
        guess, found = predicted(model, drafter, ctx).peak, measured(model, drafter, ctx, arguments.tokens)
        worst = max(worst, abs(guess / found - 1))
        print(
            f"{short(target):<20} {short(draft):<12} {ctx:>7} {guess / _MIB:>10.0f} {found / _MIB:>9.0f} "
            f"{guess / found:>6.3f}",
            flush=True,
        )
    print(f"farthest from the measured peak: {100 * worst:.1f}%")


if __name__ == "__main__":
    main()
