#!/usr/bin/env python3
"""Make the projector of the built-in pair from nothing: pictures and sounds, codes, encoders, checkpoint, GGUF file.

    python -m scripts.train.checkpoint_of_tiny --work tiny-work        # the target, from localspec/models/builtin
    python -m scripts.train.train_tiny_senses --work tiny-work         # about 20 minutes of one core

The target stays as it is. Needs torch, transformers==5.12.1, tokenizers and Pillow;
converting needs what gguf_convert needs, in this Python or in the one given by --convert-python.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "localspec/models/builtin"
NAME = "tiny-mmproj.gguf"


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--work", type=Path, default=Path("tiny-work"), help="folder that holds the checkpoint target/")
    parser.add_argument("--out", type=Path, default=MODELS, help="folder for the GGUF file")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--code-steps", type=int, default=360)
    parser.add_argument("--eye-minutes", type=float, default=12.0, help="computing time of the picture encoder")
    parser.add_argument("--ear-minutes", type=float, default=5.0, help="computing time of the sound encoder")
    parser.add_argument("--convert-python", default=sys.executable, help="a Python that has gguf_convert's needs")
    parser.add_argument("--quick", action="store_true", help="a few steps of everything, to see that it runs")
    args = parser.parse_args()
    if args.quick:
        args.code_steps, args.eye_minutes, args.ear_minutes, args.out = 3, 0.1, 0.1, args.work
    return args


def main() -> None:
    from transformers import PreTrainedTokenizerFast
    from transformers.models.gemma4 import Gemma4ForCausalLM

    from scripts.train.tiny_senses.checkpoint import write_checkpoint
    from scripts.train.tiny_senses.codes import train_codes
    from scripts.train.tiny_senses.ears import train_ears
    from scripts.train.tiny_senses.eyes import train_eyes
    from scripts.train.tiny_senses.spelling import make_spelling

    args = options()
    torch.set_num_threads(1)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(args.work / "target")
    target = Gemma4ForCausalLM.from_pretrained(args.work / "target", dtype=torch.float32).eval().requires_grad_(False)
    spelling = make_spelling(tokenizer)
    codes = train_codes(target, tokenizer, spelling, args.code_steps, 12, args.seed).requires_grad_(False)
    ears = train_ears(codes.all(codes.sound), spelling, args.ear_minutes, args.seed)
    eyes = train_eyes(codes.all(codes.picture), spelling, args.eye_minutes, args.seed)
    folder = args.work / "senses"
    write_checkpoint(folder, eyes.vision, ears.audio, codes.projection, target.config.hidden_size)
    command = [args.convert_python, "-m", "gguf_convert", str(folder), "--mmproj", str(args.out / NAME), "--force"]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


if __name__ == "__main__":
    main()
