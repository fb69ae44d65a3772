#!/usr/bin/env python3
"""Write the references of the common families for the converter's tests: what transformers computes from them.

    python -m scripts.convert.make_family_references                      # needs torch==2.13.0, transformers==5.12.1
    python -m scripts.convert.make_family_references qwen3_8b             # only these
    python -m scripts.convert.make_family_references --scale 8 --out DIR  # some megabytes each, all 200 positions
    python -m scripts.convert.parity --reference DIR                        # the table of llama.cpp against them

Layout: ``scripts/reference/__init__.py``. Gemma 3, Llama 3, SmolLM2, SmolLM3, Qwen2.5, Qwen3. Logits are
those of the checkpoint as transformers loads it back from the folder.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from scripts.convert.reference.family_models import FAMILIES, WINDOW, Family, shake
from scripts.convert.reference.files import FOLDER, save_checkpoint, save_expected
from scripts.convert.reference.gemma4_run import use_gelu_of_ggml
from scripts.convert.reference.text import TOKENS, VARIED

POSITIONS = [0, 5, 20, WINDOW - 1, WINDOW, WINDOW + 1, 63, 64, 100, 150, 199]


def tokens_of(tokenizer: Any) -> list[int]:
    """Ids of varied text, with what the tokenizer puts before it, repeated while there are too few."""
    ids: list[int] = tokenizer.encode(VARIED)
    return (ids * TOKENS)[:TOKENS]


@torch.no_grad()
def logits(model: torch.nn.Module, tokens: list[int], positions: list[int]) -> Any:
    return model(torch.tensor([tokens])).logits[0, positions].numpy()


def write(name: str, family: Family, out: Path, scale: int) -> None:
    torch.manual_seed(sum(map(ord, name)))
    model = family.make(scale)
    tokenizer = family.tokenizer(model.config.get_text_config().vocab_size)
    shake(model)
    for kind in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(model.config, kind, getattr(tokenizer, kind))
        setattr(model.generation_config, kind, getattr(tokenizer, kind))
    save_checkpoint(model, tokenizer, out / name, shards=family.shards)
    path = out / name / "config.json"
    config = json.loads(path.read_text())
    family.respell(config)
    path.write_text(json.dumps(config, separators=(",", ":")) + "\n")
    loaded = type(model).from_pretrained(out / name, dtype=torch.float32, attn_implementation="eager").eval()
    tokens = tokens_of(tokenizer)
    positions = POSITIONS if scale == 1 else list(range(len(tokens)))
    rows = {"logits": logits(loaded, tokens, positions)}
    if family.gelu:
        use_gelu_of_ggml(loaded)
        rows["logits_ggml"] = logits(loaded, tokens, positions)
    save_expected(out / name, family.label, tokens, positions=positions, **rows)
    print(f"{name}: {sum(file.stat().st_size for file in (out / name).iterdir()) / 1e3:.0f} KB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(FAMILIES))
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--scale", type=int, default=1, help="factor of all widths (1: those of the tests)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in args.names or FAMILIES:
        write(name, FAMILIES[name], args.out, args.scale)


if __name__ == "__main__":
    main()
