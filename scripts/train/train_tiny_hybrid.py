#!/usr/bin/env python3
"""Make a small hybrid model with a prediction head, in the architecture of Qwen3.5: target, head, checkpoint, GGUF.

    python -m scripts.train.train_tiny_hybrid --work tiny-hybrid     # about half an hour on one thread

Acceptance and costs of prediction heads are measured with it (docs/drafters.md); localspec ships no file of it.
Corpus, tokenizer and optimizer are those of ``tiny``. Needs torch, transformers==5.12.1, tokenizers, numpy and gguf in
one Python; converting may have another. An interrupted training continues from its last checkpoint.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import torch

from scripts.train.checkpoint_of_tiny import MODELS, read, tokenizer_of
from scripts.train.tiny_hybrid.model import save_checkpoint
from scripts.train.tiny_hybrid.train import train_head, train_target


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("tiny-hybrid"), help="folder for everything that is made")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=4000, help="most steps of the target")
    parser.add_argument("--minutes", type=float, default=20, help="longest training of the target")
    parser.add_argument("--head-steps", type=int, default=1200)
    parser.add_argument("--head-minutes", type=float, default=6)
    parser.add_argument("--type", default="Q8_0", help="tensor type of the GGUF file")
    parser.add_argument("--convert-python", default=sys.executable, help="a Python that has localspec installed")
    return parser.parse_args()


def main() -> None:
    args = options()
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    tokenizer = tokenizer_of(read(MODELS / "tiny.gguf"))
    target = train_target(tokenizer, args.work, args.steps, args.minutes, args.seed)
    head = train_head(target, tokenizer, args.work, args.head_steps, args.head_minutes, args.seed)
    folder, file = args.work / "checkpoint", args.work / f"tiny-hybrid-{args.type}.gguf"
    save_checkpoint(target, head, tokenizer, folder)
    command = [args.convert_python, "-m", "gguf_convert", folder, "-o", file, "--type", args.type, "--force"]
    subprocess.run([str(part) for part in command], check=True)


if __name__ == "__main__":
    main()
