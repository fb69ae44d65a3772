#!/usr/bin/env python3
"""Count how many draft tokens of the built-in assistant are accepted, on texts and behind pictures and sounds.

    python -m scripts.check.tiny_drafts [ASSISTANT.gguf …] [--texts 128] [--media 100]

Held-out prompts and new drawings, four tokens drafted a step, greedily and at temperature 1 with seeds. Several
assistants are given the same prompts. Needs Pillow and numpy.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import localspec
from localspec.control.base import FixedDepth
from localspec.models.resolve import TINY_ASSISTANT
from scripts.check.tiny_senses import png, scenes_to_ask, wav
from scripts.train.tiny_pair.corpus import held_out_prompts
from scripts.train.tiny_senses.scenes import Picture

Messages = list[dict[str, Any]]


def media(count: int, seed: int) -> Iterator[Messages]:
    rng = random.Random(seed)
    for scene in scenes_to_ask(count, rng):
        seen = isinstance(scene, Picture)
        part: Any = localspec.Image(png(scene, rng)) if isinstance(scene, Picture) else localspec.Audio(wav(scene, rng))
        yield [{"role": "user", "content": [part, "What is in the picture?" if seen else "What do you hear?"]}]


def count(llm: localspec.Engine, asked: list[Messages], temperature: float) -> str:
    proposed = accepted = tokens = 0
    for seed, messages in enumerate(asked):
        done = llm.chat(messages, max_tokens=128, temperature=temperature, seed=seed, top_k=0, top_p=1.0, min_p=0.0)
        proposed, accepted = proposed + done.stats.proposed, accepted + done.stats.accepted
        tokens += len(done.tokens)
    return f"{accepted} of {proposed} accepted ({accepted / proposed:.3f}), {tokens} tokens"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("assistants", type=Path, nargs="*", default=[TINY_ASSISTANT])
    parser.add_argument("--texts", type=int, default=128)
    parser.add_argument("--media", type=int, default=100)
    parser.add_argument("--seed", type=int, default=50_000)
    options = parser.parse_args()
    asked = {
        "texts": held_out_prompts(options.texts, options.seed),
        "pictures and sounds": list(media(options.media, options.seed)),
    }
    for path in options.assistants:
        with localspec.load("tiny", path, threads=1) as llm:
            llm.control = FixedDepth(4, only="mtp")
            for name, messages in asked.items():
                for temperature in (0.0, 1.0):
                    print(f"{path.name}: {name}, temperature {temperature}: {count(llm, messages, temperature)}")


if __name__ == "__main__":
    main()
