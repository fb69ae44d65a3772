#!/usr/bin/env python3
"""Measures a full n-gram store: opening, adding, saving, finding.

    python -m scripts.bench.ngram_store

A million tokens with frequencies like words' (Zipf), a third of the texts begun like another. Times are the best of
several; a busy machine shows in them all the same.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from localspec.draft.ngram_store import MOST, NgramStore

_TEXT = 2000


def best(call: Callable[[], object], times: int) -> float:
    """Return the seconds of the fastest call."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return min(found)


def main() -> None:
    draw = np.random.default_rng(0)
    texts = [(draw.zipf(1.3, _TEXT) % 50_000).tolist() for _ in range(300)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store"
        store = NgramStore.open(path, "v")
        for i in range(MOST // (_TEXT + 1) - 1):
            text = texts[i % len(texts)]
            store.add(text if i % 3 else [*texts[0][: _TEXT // 2], *text[: _TEXT // 2]])
        store.save()
        print(f"tokens      {len(store)}, {path.stat().st_size / 1e6:.1f} MB")
        print(f"open        {1e3 * best(lambda: NgramStore.open(path, 'v'), 7):.1f} ms")
        store = NgramStore.open(path, "v")
        fresh = iter(np.arange(20_000).reshape(20, 1000).tolist())
        print(f"add 1000    {1e3 * best(lambda: store.add(next(fresh)), 7):.2f} ms")
        print(f"save        {1e3 * best(lambda: _save(store, next(fresh)), 7):.1f} ms")
        places = [text[:end] for text in texts[:60] for end in range(40, _TEXT, 100)]
        costs = [(best(partial(store.find, place, 16), 7), store.find(place, 16)) for place in places]
        for low, high in ((1, 1), (2, 16), (17, 256)):
            mine = [cost for cost, found in costs if found and low <= found.count <= high]
            print(
                f"find        {1e6 * float(np.median(mine)):.1f} µs, {low} to {high} occurrences ({len(mine)} places)"
            )
        misses = [best(partial(store.find, [49_000 + n, 3, 48_000 - n, 7], 16), 7) for n in range(500)]
        print(f"find none   {1e6 * float(np.median(misses)):.1f} µs")


def _save(store: NgramStore, tokens: list[int]) -> None:
    store.add(tokens)
    store.save()


if __name__ == "__main__":
    main()
