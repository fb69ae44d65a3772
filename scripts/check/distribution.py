#!/usr/bin/env python3
"""Checks that samples have the target's own distribution, on the built-in pair with each drafter.

    python -m scripts.check.distribution --samples 20000

Each sample is three tokens of ``Engine.generate`` with a seed of its own, at temperature 1 without truncation and with
top-p 0.9. The counts are compared with the target's probabilities, walked from its logits, by chi-square; outcomes
that are expected fewer than eight times are pooled. Also counts samples that differ from those without a drafter
(there must be none). Exits 1 where a p-value is below 0.001 or a sample differs.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from typing import Any

import numpy as np

import localspec
from localspec.control.base import FixedDepth
from tests.helpers.distribution import PROMPTS, p_value, tree

LENGTH = 3
OPEN: dict[str, Any] = {"temperature": 1.0, "top_k": 0, "min_p": 0.0, "max_tokens": LENGTH}


def expected(engine: localspec.Engine, text: str, top_p: float, samples: int) -> dict[tuple[int, ...], float]:
    """The target's tree after the prompt, each row by a decode of its own."""
    target = engine._target  # its logits are no part of the public interface
    prompt = engine.vocabulary.tokenize(text, add_special=True)

    def logits(path: tuple[int, ...]) -> Any:
        engine.forget()
        target.decode(prompt[:-1], "none")
        row = target.decode(prompt[-1:])
        for token in path:
            row = target.decode((token,))
        return np.array(row[0])

    return tree(logits, LENGTH, top_p, samples, engine.vocabulary.is_end)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--prompt", choices=PROMPTS, action="append", help="after which drafter's prompt; default all")
    args = parser.parse_args()
    print(f"{'prompt':6} {'drafter':8} {'top-p':>5} {'samples':>8} {'bins':>5} {'accepted':>13} {'differ':>6} {'p':>6}")
    results = [check(name, args.samples) for name in args.prompt or PROMPTS]
    sys.exit(not all(results))


def check(prompt: str, samples: int) -> bool:
    """Return True if the samples after a prompt have the target's distribution, with every drafter."""
    text, right = PROMPTS[prompt], True
    plain: dict[float, list[tuple[int, ...]]] = {}
    for draft in ("none", "ngram", "auto"):
        with localspec.load("tiny", draft, threads=1) as engine:
            engine.control = FixedDepth(4)
            for top_p in (1.0, 0.9):
                chances = expected(engine, text, top_p, samples)
                draws, accepted, proposed = [], 0, 0
                for seed in range(samples):
                    done = engine.generate(text, **OPEN, top_p=top_p, seed=seed)
                    draws.append(tuple(done.tokens))
                    accepted, proposed = accepted + done.stats.accepted, proposed + done.stats.proposed
                alone = plain.setdefault(top_p, draws)
                differ = sum(a != b for a, b in zip(alone, draws, strict=True))
                p = p_value(Counter(draws), chances)
                right &= p >= 0.001 and differ == 0
                name = draft if draft != "auto" else "mtp"
                rate = f"{accepted}/{proposed}"
                shown = f"{prompt:6} {name:8} {top_p:5} {samples:8} {len(chances) + 1:5} {rate:>13} {differ:6} {p:6.3f}"
                print(shown, flush=True)
    return right


if __name__ == "__main__":
    main()
