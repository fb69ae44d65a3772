#!/usr/bin/env python3
"""Measures the sampler's time for a row in microseconds: default chain, and each sampler alone.

    python -m scripts.bench.sampling --vocab 151936 262144

Rows are like a model's (normal logits and a few likely tokens), eight of them in turn, as wide as the vocabulary. Of
``--rounds`` rounds the median and the least are shown: the least is what it costs on a quiet core.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np

from localspec.params import SamplingParams
from localspec.sampling import Sampler

OPEN: dict[str, Any] = {"temperature": 0.8, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
CHAINS: dict[str, dict[str, Any]] = {
    "default": {},
    "greedy": {"temperature": 0.0},
    "no truncation": OPEN,
    "top-k 40": {**OPEN, "top_k": 40},
    "top-p 0.95": {**OPEN, "top_p": 0.95},
    "min-p 0.05": {**OPEN, "min_p": 0.05},
    "typical 0.95": {**OPEN, "typical_p": 0.95},
    "default, typical": {"typical_p": 0.95},
    "top-n-sigma 2": {**OPEN, "top_n_sigma": 2.0},
    "default, sigma": {"top_n_sigma": 2.0},
    "default, XTC": {"xtc_probability": 1.0},
    "default, dynatemp": {"dynatemp_range": 0.5},
}
SHAPES: dict[str, dict[str, Any]] = {
    "repeat, 64": {"repeat_penalty": 1.1},
    "repeat, 8192": {"repeat_penalty": 1.1, "repeat_last_n": 8192},
    "frequency, 64": {"frequency_penalty": 0.2},
    "frequency, 8192": {"frequency_penalty": 0.2, "repeat_last_n": 8192},
    "DRY, 64": {"dry_multiplier": 0.8},
    "DRY, 8192": {"dry_multiplier": 0.8, "dry_penalty_last_n": 8192},
    "bias, 10": {"logit_bias": dict.fromkeys(range(10), 1.0)},
}


def rows_like_a_model_s(n_vocab: int) -> Any:
    rng = np.random.default_rng(0)
    rows = rng.normal(0, 2.5, (8, n_vocab)).astype(np.float32)
    for row in rows:
        row[rng.integers(0, n_vocab, 6)] += np.array([22, 21, 20, 19, 17, 16], np.float32)
    return rows


def microseconds(call: Callable[[int], object], rounds: int, repeat: int = 20) -> tuple[float, float]:
    """Return median and minimum over ``rounds`` of the mean of ``repeat`` calls."""
    means = []
    for at in range(rounds):
        began = perf_counter()
        for i in range(repeat):
            call(at * repeat + i)
        means.append((perf_counter() - began) / repeat * 1e6)
    return statistics.median(means), min(means)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocab", type=int, nargs="+", default=[151_936, 262_144])
    parser.add_argument("--rounds", type=int, default=60)
    args = parser.parse_args()
    for n_vocab in args.vocab:
        bench(rows_like_a_model_s(n_vocab), args.rounds)


def bench(rows: Any, rounds: int) -> None:
    tokens = np.random.default_rng(1).integers(0, 5000, 8000).tolist()
    print(f"\n{rows.shape[1]:<20} {'median µs':>19} {'least µs':>9}")

    def show(name: str, call: Callable[[int], object]) -> None:
        print(f"{name:30}" + "".join(f"{time:10.1f}" for time in microseconds(call, rounds)), flush=True)

    for name, options in CHAINS.items():
        sampler = Sampler(SamplingParams(seed=1, **options))
        show(name, lambda i, choose=sampler.choose: choose(rows[i % 8], i))  # type: ignore[misc]
    for name, options in SHAPES.items():
        adjust = Sampler(SamplingParams(seed=1, **options)).adjust
        show(f"adjust: {name}", lambda i, adjust=adjust: adjust(rows[i % 8], tokens, [5, 6, 7]))  # type: ignore[misc]
    show("confidence", lambda i: Sampler.confidence(rows[i % 8], 7))


if __name__ == "__main__":
    main()
