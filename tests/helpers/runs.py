"""Runs and traces made by hand."""

from __future__ import annotations

from localspec.bench.paired import Measurement, PairedRun
from localspec.bench.trace import Trace
from localspec.draft.base import Guess


def run(rate: float, tokens: int = 100, digest: str = "a") -> Measurement:
    """``tokens`` after the first at ``rate`` a second, half of the time verifying; 30 of 40 draft tokens accepted."""
    seconds = tokens / rate
    return Measurement(
        generated=tokens + 1, generate_s=seconds, first_s=0.5, prompt_tokens=10, prompt_s=0.4, target_s=seconds / 2,
        draft_s=seconds / 4, python_s=seconds / 4, steps=70, drafted_steps=20, proposed=40, accepted=30, digest=digest,
    )  # fmt: skip


def pair(plain: float, auto: float, prompt: str = "p", category: str = "code", turn: int = 0) -> PairedRun:
    return PairedRun(prompt, category, turn, run(plain), run(auto))


def trace(
    count: int, *, right: bool = True, name: str = "model", id: str = "t", category: str = "code", depth: int = 12
) -> Trace:
    """``count`` tokens that never repeat, and a drafter that guesses all of them, or none."""
    tokens = tuple(range(100, 100 + count))
    following = [*tokens, *range(100 + count, 100 + count + depth)]
    wrong = 0 if right else 5000
    chains = [
        [Guess(token + wrong, 0.95 if right else 0.3) for token in following[i : i + depth]] for i in range(count)
    ]
    return Trace(id, category, (1, 2, 3), tokens, {name: chains})
