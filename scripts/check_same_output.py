#!/usr/bin/env python3
"""Checks the first promise on real files: the same tokens for each seed, whatever the drafter.

    python scripts/check_same_output.py -m TARGET.gguf -d none -d ngram -d DRAFT.gguf --prompts PROMPTS.jsonl

Greedy and ``--seeds`` seeds at temperature 1, ``--count`` prompts spread over the file, ``-n`` tokens each. Every
difference from the first drafter is printed with its place; exits 1 when there is one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time

import localspec


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("-d", "--draft", action="append", required=True)
    parser.add_argument("--prompts", required=True)
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("-n", type=int, default=128)
    parser.add_argument("-c", "--ctx", type=int, default=2048)
    parser.add_argument("-t", "--threads", type=int, default=2)
    arguments = parser.parse_args()
    with open(arguments.prompts, encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    rows = rows[:: max(1, len(rows) // arguments.count)][: arguments.count]

    engines = [
        localspec.load(arguments.model, draft, ctx_size=arguments.ctx, threads=arguments.threads)
        for draft in arguments.draft
    ]
    total = different = tokens = 0
    began = time.time()
    for row, seed in itertools.product(rows, [None, *range(1, arguments.seeds + 1)]):
        expected: tuple[int, ...] | None = None
        for draft, engine in zip(arguments.draft, engines, strict=True):
            try:
                done = engine.chat(
                    row["messages"], max_tokens=arguments.n, temperature=0.0 if seed is None else 1.0, seed=seed
                )
            except localspec.PromptTooLongError as error:
                print(f"{row['id']}: {error}")
                continue
            tokens += len(done.tokens)
            if expected is None:
                expected = done.tokens
                continue
            total += 1
            if done.tokens != expected:
                different += 1
                at = next(
                    (i for i, (a, b) in enumerate(zip(expected, done.tokens, strict=False)) if a != b),
                    min(len(expected), len(done.tokens)),
                )
                print(f"{row['id']} seed {seed} drafter {draft}: differs at token {at}", flush=True)
    accepted = {draft: engine.drafters for draft, engine in zip(arguments.draft, engines, strict=True)}
    print(f"{total} answers compared, {different} differ; {tokens} tokens in {time.time() - began:.0f} s; {accepted}")
    for engine in engines:
        engine.close()
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
