#!/usr/bin/env python3
"""Measures how often a drafter's token is the target's, by drafting rule, at one temperature without truncation.

    python -m scripts.bench.acceptance -m TARGET.gguf -d DRAFT.gguf --prompts PROMPTS.jsonl --category chat

Teacher-forced: the target answers each prompt (a line ``{"id", "category", "messages"}``), and at every position of
the answer both models say what comes next. Rules: ``shared``: both sample with the same noise (what localspec does;
counted over ``--seeds`` seeds); ``argmax``: the drafter's likeliest token against a sample of the target (llama.cpp;
its exact expectation); ``p/q``: rejection sampling (its exact expectation, 1 − TV). Needs no quiet machine.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

import localspec
from localspec.params import SamplingParams
from localspec.sampling import Sampler

_WIDTH = 16


def rows_of(engine: localspec.Engine, prompt: list[int], answer: list[int]) -> Any:
    """Return the logits (n, n_vocab) before each token of ``answer``."""
    target = engine._target  # its logits are no part of the public interface
    engine.forget()
    tokens = [*prompt, *answer[:-1]]
    for at in range(0, len(prompt) - 1, 256):
        target.decode(tokens[at : min(at + 256, len(prompt) - 1)], "none")
    starts = range(len(prompt) - 1, len(tokens), _WIDTH)
    return np.concatenate([np.array(target.decode(tokens[at : at + _WIDTH])) for at in starts])


def softmax(row: Any, temperature: float) -> Any:
    weights = np.exp((row.astype(np.float64) - float(row.max())) / temperature)
    return weights / weights.sum()


def measure(target: Any, draft: Any, start: int, samplers: list[Sampler], temperature: float) -> list[list[float]]:
    """Return for each position the share of equal choices over seeds, the probability of the argmax, and 1 − TV."""
    found = []
    for i, (row, guess) in enumerate(zip(target, draft, strict=True)):
        n = min(len(row), len(guess))
        p, q = softmax(row[:n], temperature), softmax(guess[:n], temperature)
        same = [s.choose(row, start + i) == s.choose(guess, start + i) for s in samplers]
        found.append([float(np.mean(same)), float(p[q.argmax()]), float(np.minimum(p, q).sum())])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("-d", "--draft", required=True)
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--category", default="chat")
    parser.add_argument("--temp", type=float, default=1.0)
    parser.add_argument("-n", "--tokens", type=int, default=48, help="of each answer")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("-t", "--threads", type=int, default=1)
    args = parser.parse_args()
    lines = [json.loads(line) for line in args.prompts.read_text(encoding="utf-8").splitlines() if line.strip()]
    chosen = [line for line in lines if line.get("category") == args.category]
    params: dict[str, Any] = {"temperature": args.temp, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
    samplers = [Sampler(SamplingParams(**params, seed=1000 + seed)) for seed in range(args.seeds)]
    found: list[list[float]] = []
    settings: dict[str, Any] = {"ctx_size": 2048, "threads": args.threads, "exactness": "off"}
    with (
        localspec.load(args.model, "none", **settings) as target,
        localspec.load(args.draft, "none", **settings) as draft,
    ):
        for seed, line in enumerate(chosen):
            prompt = target.prompt_tokens(line["messages"])
            answer = list(target.chat(line["messages"], max_tokens=args.tokens, seed=seed, **params).tokens)
            if len(answer) < 2:
                continue
            rows, guesses = rows_of(target, prompt, answer), rows_of(draft, prompt, answer)
            found += measure(rows, guesses, len(prompt), samplers, args.temp)
            shared, argmax, rejection = np.mean(found, axis=0)
            print(
                f"{line['id']:24} positions {len(found):5}  shared {shared:.3f}  argmax {argmax:.3f}  "
                f"p/q {rejection:.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
