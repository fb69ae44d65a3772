"""Load one random pair and measure it: memory against the estimate, costs of passes, rows by width.

Runs in a process of its own, since llama.cpp may abort it: ``python -m scripts.check.gpu_check.measure RESULT TARGET
[ASSISTANT] --seconds N``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from localspec.control.costs import WIDTHS, Costs
from localspec.gguf.header import read_header
from localspec.llama import binding
from localspec.llama.context import LlamaContext
from localspec.llama.host import peak_memory
from localspec.llama.model import LlamaModel
from localspec.llama.mtp import LlamaMtpContext
from localspec.memory.fit import LoadRequest, LoadSettings, choose_settings
from localspec.memory.machine import read_machine
from localspec.params import MAX_VERIFY_WIDTH, ContextParams
from localspec.probe.costs import curve_from_samples, measure_cell, measure_mtp, measure_passes
from scripts.check.gpu_check.result import Result
from scripts.check.gpu_check.rows import Compared, compare_fixed, compare_variable, fill, totals

VARIABLE, FIXED = (2, 3, 4, 6, 8, 16), (2, 4, 8)
#: Lengths of the cache: short, across the steps of 256 cells in which llama.cpp views it, and beyond a window of 512.
LENGTHS = (40, 253, 600)
#: Tokens of the prompts whose prefill is timed, and lengths of the cache behind which passes are.
_PROMPTS, _CACHES, _CACHE_WIDTHS = (512, 2048), (2048, 7000), (1, 2, 4, 8, 16)
#: Runs of a timed pass; the fastest counts.
_RUNS = 3
#: Seconds of a single-token pass up to which it is quick.
_QUICK_S = 0.02


class Pair:
    """A loaded target and assistant with their contexts."""

    def __init__(self, target: Path, assistant: Path | None, params: ContextParams, stack: ExitStack) -> None:
        headers = read_header(target), read_header(assistant) if assistant else None
        request = LoadRequest.from_headers(*headers, "mtp" if assistant else "none")
        self.before = _free()
        self.settings: LoadSettings = choose_settings(request, params, read_machine())
        own = self.settings.target
        began = perf_counter()
        self.model = LlamaModel(headers[0], own)
        stack.callback(self.model.close)
        self.context = LlamaContext(self.model, own, self.settings.n_ctx, hidden=assistant is not None)
        stack.callback(self.context.close)
        self.assistant: LlamaMtpContext | None = None
        if headers[1] is not None:
            drafter = LlamaModel(headers[1], replace(own, gpu_layers=self.settings.drafter.gpu_layers))
            stack.callback(drafter.close)
            self.assistant = LlamaMtpContext(drafter, own, self.context)
            stack.callback(self.assistant.close)
        self.load_s = perf_counter() - began
        random = np.random.default_rng(1)
        self.tokens = random.integers(300, min(8000, self.model.n_vocab), self.settings.n_ctx).tolist()


def memory(pair: Pair) -> dict[str, Any]:
    """Placement, and the memory in use after the widest pass, with the estimate of it."""
    fill(pair.context, pair.tokens, min(pair.context.pass_width, pair.settings.n_ctx))
    after, settings = _free(), pair.settings
    return {
        "placement": {
            "gpu": pair.model.placement.gpu,
            "layers": settings.target.gpu_layers,
            "draft_layers": settings.drafter.gpu_layers,
            "notices": settings.notices,
        },
        "n_ctx": settings.n_ctx,
        "settings": pair.context.settings(),
        "load_s": pair.load_s,
        "estimate": {"device": settings.device, "host_peak": settings.peak, "host_private": settings.private},
        "measured": {
            "device": {name: pair.before[name] - free for name, free in after.items()},
            "host_peak": peak_memory(),
        },
    }


def costs(pair: Pair, result: Result) -> Iterator[dict[str, Any]]:
    """Costs of passes and of a draft token, as ``localspec tune --save`` writes them, and the speed of prefill.

    Every width is measured five times, where a pass is quick; else within seconds. Yields what is known so far.
    """
    context, tokens = pair.context, pair.tokens
    for width in WIDTHS:  # a GPU compiles kernels at the first pass of a width
        if width == 1 or result.left > 0:
            context.decode(tokens[:width])
            context.rewind(0)
    one = _fastest(partial(context.decode, tokens[:1]), context, 2)
    curve = curve_from_samples(measure_passes(context, tokens, MAX_VERIFY_WIDTH, thorough=one < _QUICK_S))
    found, prefill = Costs(curve), dict[str, float]()
    yield {**found.to_dict(), "prefill_tokens_per_s": prefill}
    if pair.assistant is not None and result.left > 0:
        found = replace(found, drafters={"mtp": measure_mtp(pair.assistant, context, tokens)})
        yield {**found.to_dict(), "prefill_tokens_per_s": prefill}
    if result.left > 0:
        found = replace(found, verify=replace(curve, cell=measure_cell(context, tokens, curve)))
    for length in (n for n in _PROMPTS[: 2 if one < _QUICK_S else 1] if n <= pair.settings.n_ctx):
        if result.left > 0:
            prefill[str(length)] = length / _fastest(partial(fill, context, tokens, length), context, 2)
    yield {**found.to_dict(), "prefill_tokens_per_s": prefill}


def long_costs(pair: Pair, result: Result) -> dict[str, dict[str, float]]:
    """Milliseconds of passes behind a long cache: length → width → ms."""
    found: dict[str, dict[str, float]] = {}
    for length in (n for n in _CACHES if n + MAX_VERIFY_WIDTH < pair.settings.n_ctx):
        if result.left < 0:
            break
        fill(pair.context, pair.tokens, length)
        row = found.setdefault(str(length), {})
        for width in _CACHE_WIDTHS:
            tokens = pair.tokens[length : length + width]
            seconds = _fastest(partial(pair.context.decode, tokens), pair.context, _RUNS, length)
            row[str(width)] = 1000 * seconds
    return found


def rows(pair: Pair, result: Result, lengths: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Compare rows: fixed widths and variable ones, at each length in turn. Yields the totals after each width."""
    variable, fixed = list[Compared](), list[Compared]()
    widest = max(*VARIABLE, *FIXED)
    for length in (n for n in lengths if n + widest < pair.settings.n_ctx):
        jobs = [(compare_variable, variable, VARIABLE), (compare_fixed, fixed, FIXED)]
        for compare, found, widths in jobs:
            for width in widths:
                if result.left < 0:
                    return
                found.append(compare(pair.context, pair.tokens, length, width))
                yield {
                    "variable": totals(variable),
                    "fixed": totals(fixed),
                    "by_length": {"variable": [c.to_dict() for c in variable], "fixed": [c.to_dict() for c in fixed]},
                }


def _fastest(run: Callable[[], object], context: LlamaContext, runs: int, start: int = 0) -> float:
    """Seconds of the fastest of several runs, each from a cache of ``start`` tokens."""
    times = []
    for _ in range(runs):
        context.rewind(start)
        began = perf_counter()
        run()
        times.append(perf_counter() - began)
    context.rewind(start)
    return min(times)


def _free() -> dict[str, int]:
    return {device.name: device.memory_free for device in binding.devices() if device.kind in ("gpu", "igpu")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("result", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("assistant", type=Path, nargs="?")
    parser.add_argument("--about", default="", help="what the result is called in the report")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--parts", default="memory,costs,long,rows")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--ctx", type=int, default=8192)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--layers", type=int, help="layers on the GPU")
    parser.add_argument("--batch", type=int, default=512, help="tokens of a prefill pass")
    arguments = parser.parse_args()
    parts = arguments.parts.split(",")
    result = Result(arguments.result, arguments.seconds, about=arguments.about, target=arguments.target.name)
    params = ContextParams(
        ctx_size=arguments.ctx, threads=arguments.threads, gpu_layers=arguments.layers, batch=arguments.batch
    )
    with ExitStack() as stack:
        pair = Pair(arguments.target, arguments.assistant, params, stack)
        result.add("devices", [asdict(device) for device in binding.devices()])
        result.add("memory", memory(pair))
        if "costs" in parts:
            for known in costs(pair, result):
                result.add("costs", known)
        if "long" in parts:
            result.add("long_costs_ms", long_costs(pair, result))
        if "rows" in parts:
            for found in rows(pair, result, arguments.lengths):
                result.add("rows", found)
        result.add("complete", result.left >= 0)


if __name__ == "__main__":
    main()
