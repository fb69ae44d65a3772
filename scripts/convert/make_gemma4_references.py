#!/usr/bin/env python3
"""Write the Gemma 4 references of the converter's tests: small random checkpoints, and what transformers computes.

    python -m scripts.convert.make_gemma4_references                       # needs torch==2.13.0, transformers==5.12.1
    python -m scripts.convert.make_gemma4_references --scale 4 --out DIR   # checkpoints of some megabytes
    python -m scripts.convert.parity --reference DIR               # the table of llama.cpp against them

Layout: ``scripts/reference/__init__.py``. Every size and its assistant: E2B, E4B, 12B, 26B-A4B, 31B.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from scripts.convert.reference.files import FOLDER, save_checkpoint, save_expected
from scripts.convert.reference.gemma4_models import SIZES, Size, vocabulary
from scripts.convert.reference.gemma4_run import (
    LENGTHS,
    POSITIONS,
    draft_rows,
    separate_experts,
    shake,
    target_rows,
    use_gelu_of_ggml,
)
from scripts.convert.reference.text import TEXTS, make_tokenizer, varied_tokens

WITH_TEXTS = "gemma4_e2b"  # the reference that has tokenised texts beside it


def write(name: str, size: Size, scale: int, out: Path, tokenizer: Any) -> None:
    tokens = varied_tokens(tokenizer)
    target, assistant = size.target(scale), size.assistant(scale) if size.assistant else None
    for model, damping in ((target, 1.0), (assistant, 0.3)):
        if model is not None:
            model.eval()
            model.set_attn_implementation("eager")
            shake(model, damping)
    gap = separate_experts(target, tokens)
    target.generation_config.suppress_tokens = list(size.suppress) or None
    save_checkpoint(target, tokenizer, out / name, shards=size.shards, text_config=size.text_config)
    if assistant is not None:
        save_checkpoint(assistant, tokenizer, out / f"{name}_assistant", text_config=size.text_config)
        assistant.config.use_ordered_embeddings = False  # the whole vocabulary head, as llama.cpp computes it
    positions = POSITIONS if scale == 1 else list(range(len(tokens)))
    rows: dict[str, Any] = target_rows(target, tokens, positions)
    drafts = draft_rows(target, assistant, tokens, trim=False) if assistant is not None else {}
    for model in (target, assistant):
        if model is not None:
            use_gelu_of_ggml(model)
    rows |= {f"{key}_ggml": value for key, value in target_rows(target, tokens, positions).items()}
    save_expected(out / name, size.label, tokens, positions=positions, **rows)
    if assistant is not None:
        again = draft_rows(target, assistant, tokens, trim=True)
        drafts |= {"drafts_ggml": again["drafts"], "draft_logits_ggml": again["draft_logits"]}
        label = f"{size.label} assistant"
        save_expected(out / f"{name}_assistant", label, tokens, target=name, lengths=LENGTHS, **drafts)
    print(f"{name}: smallest gap between experts {gap:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=int, default=1, help="how many times wider than what the tests store")
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write to (default: that of the tests)")
    parser.add_argument("--only", choices=SIZES, help="one size instead of all")
    options = parser.parse_args()
    if options.scale > 1 and options.out == FOLDER:
        parser.error("--scale needs --out: the tests store scale 1")
    torch.set_num_threads(1)
    tokenizer = make_tokenizer(vocabulary(options.scale))
    for name, size in SIZES.items():
        if options.only in (None, name):
            torch.manual_seed(0)
            write(name, size, options.scale, options.out, tokenizer)
    if options.only in (None, WITH_TEXTS):
        texts = [{"text": text, "ids": tokenizer.encode(text, add_special_tokens=False)} for text in TEXTS]
        (options.out / WITH_TEXTS / "texts.json").write_text(json.dumps(texts) + "\n")


if __name__ == "__main__":
    main()
