"""A model over one to three workers gives the tokens of one machine, plain and with drafts, at several delays.

``python -m scripts.check.machines.same MODEL LAYERS``: a file whose matrices llama.cpp does not keep in another order
(Q8_0 on x86), because workers have no such copies. ``LAYERS`` go to the workers.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import localspec
from localspec import Engine
from scripts.check.machines.field import Machine, started

_PROMPTS = ("Explain in a few sentences why the sky is blue.", "Write a function that adds up a list, then call it.")
_TOKENS = 40
_SETTINGS: dict[str, Any] = {"ctx_size": 1024, "threads": 1, "cache_type_k": "q8_0", "cache_type_v": "q8_0"}
#: Workers, and milliseconds of a round trip.
_FIELDS = ((1, 0.2), (2, 0.2), (3, 0.2), (2, 2.0), (3, 2.0), (2, 20.0), (3, 20.0))


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


def main() -> int:
    """0 if all answers are the same."""
    model, layers = sys.argv[1], int(sys.argv[2])
    with localspec.load(model, "ngram", **_SETTINGS) as engine:
        engine.measure()
        wanted = answers(engine)
    different = 0
    for count, delay in _FIELDS:
        with started(*(Machine(50 + i, delay) for i in range(count))) as machines:
            rpc = [f"{machine.address}={layers // count}" for machine in machines]
            with localspec.load(model, "ngram", rpc=rpc, **_SETTINGS) as engine:
                engine.measure()
                found = answers(engine)
                exactness = engine.exactness
        equal = sum(a == b for a, b in zip(found, wanted, strict=True))
        different += len(wanted) - equal
        result = {"workers": count, "delay_ms": delay, "answers": len(wanted), "equal": equal, "exactness": exactness}
        print(json.dumps(result), flush=True)
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main())
