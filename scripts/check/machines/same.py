"""A model over one to three workers gives the tokens of one machine, plain and with drafts, at several links.

``python -m scripts.check.machines.same MODEL LAYERS``: ``LAYERS`` go to the workers. Files with matrices that llama.cpp
keeps in another order (Q4_0 and Q4_K on x86) need ``--require``: workers cannot, and then this machine does not either,
with ``--rpc`` and none of the layers on the worker.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

import localspec
from localspec import Engine
from localspec.params import ExactnessMode
from scripts.check.machines.field import Machine, started

_PROMPTS = ("Explain in a few sentences why the sky is blue.", "Write a function that adds up a list, then call it.")
_TOKENS = 40
_SETTINGS: dict[str, Any] = {"ctx_size": 1024, "threads": 1, "cache_type_k": "q8_0", "cache_type_v": "q8_0"}
#: Workers, milliseconds of a round trip, and megabits a second.
FIELDS = [
    (1, 0.2, 1000.0),
    *((count, delay, rate) for count in (2, 3) for delay in (0.2, 2.0, 20.0) for rate in (1000.0, 100.0)),
]


def answers(engine: Engine) -> list[tuple[int, ...]]:
    """Greedy and seeded, plain and with drafts."""
    found = []
    for drafting in (False, True):
        engine.drafting = drafting
        for prompt in _PROMPTS:
            for sampling in ({"temperature": 0.0}, {"temperature": 1.0, "seed": 7}):
                messages = [{"role": "user", "content": prompt}]
                found.append(engine.chat(messages, max_tokens=_TOKENS, **sampling).tokens)  # type: ignore[arg-type]
    return found


def answered(model: str, rpc: Sequence[str] | None, exactness: ExactnessMode) -> tuple[list[tuple[int, ...]], str]:
    """The answers, and their exactness."""
    with localspec.load(model, "ngram", rpc=rpc, exactness=exactness, **_SETTINGS) as engine:
        engine.measure()
        return answers(engine), engine.exactness


def main() -> int:
    """0 if all answers are the same."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("layers", type=int)
    parser.add_argument("--only", help="Numbers of the fields, separated by commas.")
    parser.add_argument("--number", type=int, default=50, help="Number of the first machine: 1 to 250.")
    parser.add_argument("--require", action="store_true", help="Load with `--exactness require`.")
    options = parser.parse_args()
    exactness: ExactnessMode = "require" if options.require else "prefer"
    chosen = [FIELDS[int(i)] for i in options.only.split(",")] if options.only else FIELDS
    with started(Machine(options.number)) as (machine,):
        wanted, _ = answered(options.model, [f"{machine.address}=0"] if options.require else None, exactness)
    different = 0
    for count, delay, rate in chosen:
        with started(*(Machine(options.number + i, delay, rate) for i in range(count))) as machines:
            rpc = [f"{machine.address}={options.layers // count}" for machine in machines]
            found, proved = answered(options.model, rpc, exactness)
        tokens = sum(a != b for one, other in zip(found, wanted, strict=True) for a, b in zip(one, other, strict=False))
        equal = sum(a == b for a, b in zip(found, wanted, strict=True))
        different += len(wanted) - equal
        result = {"workers": count, "delay_ms": delay, "mbit": rate, "answers": len(wanted), "equal": equal}
        print(json.dumps({**result, "different_tokens": tokens, "exactness": proved}), flush=True)
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main())
