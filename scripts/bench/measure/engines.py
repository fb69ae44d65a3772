"""Run localspec for a measurement: an engine for each mode, without reuse of the cache unless requested."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, get_args

import localspec
from localspec.bench.paired import token_digest
from localspec.params import ExactnessMode
from scripts.bench.measure.records import Run
from scripts.bench.measure.servers import Sampling


def load_mode(spec: str, model: str, draft: str | None, ctx: int, threads: int) -> tuple[localspec.Engine, int | None]:
    """Load the engine of ``none``, ``ngram``, ``auto``, ``mtp`` or ``model``, and its --draft-max.

    ``auto`` and ``model`` take the drafter's file where one is given: what a user gets with ``-d FILE``. ``:N`` behind
    means --draft-max N, ``@FILE`` another drafter, ``!WISH`` behind the kind --exactness WISH.
    """
    kind, _, file = spec.partition("@")
    kind, _, most = kind.partition(":")
    kind, _, wish = kind.partition("!")
    if wish not in ("", *get_args(ExactnessMode)):
        raise SystemExit(f"--ours is {spec!r}; behind the ! must be one of {', '.join(get_args(ExactnessMode))}")
    if kind not in ("none", "ngram", "auto", "mtp", "model"):
        raise SystemExit(f"--ours is {spec!r}; it must be none, ngram, auto, mtp or model, then perhaps :N or @FILE")
    source = file or draft
    if kind == "model" and not source:
        raise SystemExit("--ours model needs the drafter's file: -d FILE")
    drafter = (source or "auto") if kind in ("auto", "model") else kind
    exactness: ExactnessMode = wish or "prefer"  # type: ignore[assignment] # checked above
    engine = localspec.load(model, drafter, ctx_size=ctx, threads=threads, exactness=exactness)
    return engine, int(most) if most else None


def ask_engine(
    engine: localspec.Engine,
    messages: Sequence[dict[str, Any]],
    n: int,
    sampling: Sampling,
    draft_max: int | None = None,
    *,
    reuse: bool = False,
) -> Run:
    """Measure an answer of at most ``n`` tokens; ``reuse`` keeps the cached beginning of the prompt."""
    if not reuse:
        engine.forget()
    options: dict[str, Any] = {**sampling.for_engine(), **({} if draft_max is None else {"draft_max": draft_max})}
    began = time.perf_counter()
    first = None
    for chunk in engine.stream_chat(messages, max_tokens=n, **options):
        first = time.perf_counter() - began if first is None else first
        done = chunk.completion
    wall = time.perf_counter() - began
    assert done is not None
    assert first is not None
    return run_of(done, first, wall)


def run_of(done: localspec.Completion, first_s: float, wall_s: float) -> Run:
    """Take times and counts from a completion."""
    stats = done.stats
    drafted = stats.proposed > 0
    return Run(
        generated=len(done.tokens) + (done.finish_reason == "stop"),
        generate_s=stats.generate_s,
        prompt_tokens=stats.prefilled_tokens,
        prompt_s=stats.prompt_s,
        first_s=first_s,
        wall_s=wall_s,
        digest=token_digest(done.tokens),
        proposed=stats.proposed if drafted else None,
        accepted=stats.accepted if drafted else None,
        steps=stats.steps,
        target_s=stats.target_s,
        draft_s=stats.draft_s,
        python_s=stats.python_s,
    )
