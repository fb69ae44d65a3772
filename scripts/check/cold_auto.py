#!/usr/bin/env python3
"""Print what a cold ``-d auto`` chooses for random small models of each architecture of the tests, as a table.

    python -m scripts.check.cold_auto

Nothing is known of a pair before, and each model lies alone in a folder, so that lookup and heads in its file are all
that can draft. Its text is a prompt that repeats itself, which a random model does not continue: a good control drafts
little. The last column compares the tokens with those of plain decoding.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import localspec
from tests.helpers.random_models import FAMILIES, random_model

HEADS = {"qwen35": 1, "qwen35moe": 1, "qwen3next": 1, "glm4moe": 1, "step35": 2}
PROMPT = "Once there was a little owl who lived in a tall pine tree, and every night it looked at the moon. " * 4
TOKENS = 160


def row(architecture: str, heads: int, folder: Path) -> str:
    path = random_model(folder / f"{architecture}-{heads}" / "target.gguf", architecture, heads=heads)
    with localspec.load(path, "none", threads=1, ctx_size=1024) as plain:
        expected = plain.generate(PROMPT, max_tokens=TOKENS, temperature=0).tokens
    with localspec.load(path, "auto", threads=1, ctx_size=1024) as engine:
        done = engine.generate(PROMPT, max_tokens=TOKENS, temperature=0)
        stats, back = done.stats, engine._target.rollback
        used = ", ".join(f"{n} {one.accepted}/{one.proposed}" for n, one in stats.by_drafter.items()) or "none"
        takes_back = "all" if back > TOKENS else f"{back} tokens" if back else "by checkpoints"
        cells = (f"`{architecture}`{' with heads' if heads else ''}", ", ".join(engine.drafters), engine.exactness,
                 takes_back, used, "yes" if done.tokens == expected else "NO")  # fmt: skip
    return f"| {' | '.join(cells)} |"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LOCALSPEC_DATA"] = os.environ["LOCALSPEC_CACHE"] = folder
        print("| architecture | drafters | exactness | takes back | drafts accepted / proposed | same tokens |")
        print("|---" * 6 + "|")
        for name in FAMILIES:
            for heads in sorted({0, HEADS.get(name, 0)}):
                print(row(name, heads, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
