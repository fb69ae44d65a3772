#!/usr/bin/env python3
"""Make the built-in pair ``tiny`` from nothing: corpus, tokenizer, target, MTP assistant, checkpoints, GGUF files.

    python -m scripts.train.train_tiny_pair              # about 50 minutes on two cores
    python -m scripts.train.train_tiny_pair --quick      # a smoke run of about a minute; its models talk nonsense

Needs torch, transformers==5.12.1 and tokenizers; converting also needs what gguf_convert needs (numpy, gguf), in this
Python or in the one given by --convert-python. An interrupted training continues from its last checkpoint.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "localspec/models/builtin"
TRANSFORMERS = "5.12.1"


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--work", type=Path, default=Path("tiny-work"), help="folder for checkpoints (default: tiny-work)"
    )
    parser.add_argument(
        "--out", type=Path, default=MODELS, help="folder for the GGUF files (default: localspec/models/builtin)"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2200, help="most steps of the target")
    parser.add_argument("--minutes", type=float, default=35, help="longest training of the target")
    parser.add_argument("--assistant-steps", type=int, default=1200)
    parser.add_argument("--assistant-minutes", type=float, default=12)
    parser.add_argument(
        "--stage", choices=["all", "target", "assistant", "convert"], default="all", help="do one stage only"
    )
    parser.add_argument(
        "--no-compile", action="store_true", help="do without torch.compile (which needs a C++ compiler)"
    )
    parser.add_argument("--convert-python", default=sys.executable, help="a Python that has numpy and gguf")
    parser.add_argument("--quick", action="store_true", help="a few steps of everything, to see that it runs")
    args = parser.parse_args()
    if args.quick:
        args.steps, args.assistant_steps, args.minutes, args.assistant_minutes, args.no_compile = 12, 8, 1.0, 0.5, True
        args.work, args.out = Path(f"{args.work}-quick"), Path(f"{args.work}-quick")
    return args


def require_libraries() -> None:
    try:
        import tokenizers  # noqa: F401
        import torch  # noqa: F401
        import transformers
    except ImportError as error:
        sys.exit(f"Training needs torch, transformers=={TRANSFORMERS} and tokenizers; pip install {error.name}.")
    if transformers.__version__ != TRANSFORMERS:
        sys.exit(
            f"Training needs transformers=={TRANSFORMERS} (other versions cannot build the assistant); found "
            f"{transformers.__version__}: install transformers=={TRANSFORMERS}."
        )


def make_target(args: argparse.Namespace) -> None:
    from scripts.train.tiny_pair.corpus import documents
    from scripts.train.tiny_pair.model import finish_configs, make_tokenizer
    from scripts.train.tiny_pair.train import train_target

    texts = itertools.islice(documents(args.seed + 6), 2000 if args.quick else 20000)
    tokenizer = make_tokenizer(text for text in texts if text.isascii() and "```" not in text)
    target = train_target(tokenizer, args.work, args.steps, args.minutes, args.seed, not args.no_compile)
    finish_configs(target, tokenizer)
    target.save_pretrained(args.work / "target")
    tokenizer.save_pretrained(args.work / "target")


def make_assistant(args: argparse.Namespace) -> None:
    from transformers import PreTrainedTokenizerFast
    from transformers.models.gemma4 import Gemma4ForCausalLM

    from scripts.train.tiny_pair.assistant import train_assistant
    from scripts.train.tiny_pair.model import finish_configs

    tokenizer = PreTrainedTokenizerFast.from_pretrained(args.work / "target")
    target = Gemma4ForCausalLM.from_pretrained(args.work / "target", dtype="float32")
    assistant = train_assistant(
        target, tokenizer, args.work, args.assistant_steps, args.assistant_minutes, args.seed, not args.no_compile,
        at_most=128 if args.quick else 12800,
    )  # fmt: skip
    finish_configs(assistant, tokenizer)
    assistant.save_pretrained(args.work / "assistant")
    tokenizer.save_pretrained(args.work / "assistant")


def convert(args: argparse.Namespace) -> None:
    """Both checkpoints to Q8_0, through the converter of this repository."""
    args.out.mkdir(parents=True, exist_ok=True)
    for part, name in (("target", "tiny.gguf"), ("assistant", "tiny-assistant.gguf")):
        command = [
            args.convert_python,
            "-m",
            "gguf_convert",
            str(args.work / part),
            "-o",
            str(args.out / name),
            "--type",
            "Q8_0",
            "--force",
        ]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    total = sum((args.out / name).stat().st_size for name in ("tiny.gguf", "tiny-assistant.gguf"))
    print(f"{args.out}: {total / 1e6:.1f} MB in two files")


def report(args: argparse.Namespace) -> None:
    """Held-out acceptance, by transformers' own assisted generation, and sample answers."""
    from scripts.train.tiny_pair.report import report_pair

    report_pair(args.work / "target", args.work / "assistant", prompts=4 if args.quick else 32)


def main() -> None:
    args = options()
    require_libraries()
    import torch

    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    if args.stage in {"all", "target"}:
        make_target(args)
    if args.stage in {"all", "assistant"}:
        make_assistant(args)
        report(args)
    if args.stage in {"all", "convert"}:
        convert(args)


if __name__ == "__main__":
    main()
