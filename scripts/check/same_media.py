#!/usr/bin/env python3
"""Check that drafting never changes an answer to pictures and sounds, whatever is cached.

    python -m scripts.check.same_media --count 300
    python -m scripts.check.same_media -m TARGET.gguf --mmproj MMPROJ.gguf -d ngram -d auto --count 300

Without ``--mmproj`` a small random projector is made. Each conversation has two or three turns with pictures and sounds
at random places; each turn is answered greedily or with a seed, by every drafter with its own cache, and by plain
decoding from an empty one. Prints each difference; exits 1 when there is one.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import localspec
from localspec.control.base import FixedDepth
from localspec.models.resolve import TINY_TARGET
from scripts.check.same_output import first_difference
from tests.helpers.media_files import png, tone, wav
from tests.helpers.projectors import write_projector

SAID = ("What is in the picture?", "Tell me a story about a little owl and the moon.", "And this?", "Hello!", "Go on.")
DEPTHS = (1, 2, 3, 5, 7, 15)


def content(draw: random.Random, *, first: bool) -> Any:
    """A text, or one with pictures and sounds around it."""
    text = {"type": "text", "text": draw.choice(SAID)}
    media: list[Any] = []
    for _ in range(draw.randint(1 if first else 0, 2)):
        if draw.random() < 0.7:
            size = draw.choice((40, 90, 200, 400)), draw.choice((30, 90, 250))
            media.append(localspec.Image(png(draw.randrange(6), *size)))
        else:
            media.append(localspec.Audio(wav(tone(draw.choice((220, 440, 880)), draw.choice((0.2, 1.0, 3.3))))))
    if not media:
        return text["text"]
    parts = [*media, text]
    draw.shuffle(parts)
    return parts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", default="tiny")
    parser.add_argument("--mmproj", type=Path)
    parser.add_argument("-d", "--draft", action="append")
    parser.add_argument("--count", type=int, default=300, help="answers that are drafted")
    parser.add_argument("-n", type=int, default=40, help="tokens of an answer")
    parser.add_argument("-t", "--threads", type=int)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        projector = options.mmproj or write_projector(Path(folder) / "mmproj.gguf", scale=0.5)
        return compare(options, projector)


def compare(options: argparse.Namespace, projector: Path) -> int:
    settings: dict[str, Any] = {"mmproj": projector, "threads": options.threads, "device": "none"}
    drafts = options.draft or ["auto", "ngram", str(TINY_TARGET)]
    engines = {draft: localspec.load(options.model, draft, **settings) for draft in drafts}
    plain = localspec.load(options.model, "none", **settings)
    counts: Counter[str] = Counter()
    conversation = 0
    while counts["answers"] < options.count:
        draw = random.Random(f"{options.seed} {conversation}")
        conversation += 1
        messages: list[dict[str, Any]] = []
        for turn in range(draw.randint(2, 3)):
            messages.append({"role": "user", "content": content(draw, first=turn == 0)})
            sampling: dict[str, Any] = {"temperature": 0.0}
            if draw.random() < 0.6:
                sampling = {"temperature": 1.0, "seed": draw.randrange(2**32)}
            plain._target.rewind(0)  # nothing is reused: the conversation's tokens stay known
            expected = plain.chat(messages, max_tokens=options.n, **sampling)
            for draft, engine in engines.items():
                engine.control = FixedDepth(draw.choice(DEPTHS))
                done = engine.chat(messages, max_tokens=options.n, **sampling)
                counts["answers"] += 1
                counts["sampled"] += "seed" in sampling
                counts["drafted"] += done.stats.proposed
                counts["accepted"] += done.stats.accepted
                counts["cached"] += done.stats.cached_tokens
                if done.tokens != expected.tokens:
                    counts["different"] += 1
                    at = first_difference(done.tokens, expected.tokens)
                    print(f"conversation {conversation}, turn {turn}, {draft}, {sampling}: differs at {at}", flush=True)
            messages.append({"role": "assistant", "content": expected.text})
    print(
        f"{counts['answers']} answers ({counts['sampled']} with a seed) of {conversation} conversations by "
        f"{', '.join(drafts)}: {counts['different']} differ; {counts['accepted']} of {counts['drafted']} draft tokens "
        f"accepted, {counts['cached']} tokens reused"
    )
    return int(counts["different"] > 0)


if __name__ == "__main__":
    sys.exit(main())
