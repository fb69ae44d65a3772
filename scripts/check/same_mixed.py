#!/usr/bin/env python3
"""Check that drafting never changes an answer, whatever the options and whatever is cached.

    python -m scripts.check.same_mixed -m TARGET.gguf -d ngram -d DRAFT.gguf --pass-width 4 --count 1000

Prompts have lengths around the steps of 256 cells. Each is answered greedily, with seeds, penalties, DRY, XTC, a bias,
log probabilities, a schema and a grammar. The cache before an answer is empty, holds another answer to the prompt, one
that was cancelled, or a shorter prompt. Drafts have fixed lengths or the controller's. Every answer is compared with
that of an engine without a drafter and with the same settings. Prints each difference; exits 1 when there is one.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import localspec
from localspec import loading
from localspec.control.base import FixedDepth
from localspec.params import ContextParams
from scripts.check.same_output import first_difference

LENGTHS = (250, 20, 254, 100, 240, 497, 190, 258, 509, 60)
SCHEMA = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 8}, "size": {"type": "integer"}}}
SETTINGS: tuple[dict[str, Any], ...] = (
    {"temperature": 0.0},
    {"temperature": 1.0},
    {"temperature": 0.7, "repeat_penalty": 1.2, "presence_penalty": 0.4},
    {"temperature": 0.0, "dry_multiplier": 0.8, "frequency_penalty": 0.3},
    {"temperature": 0.8, "response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}},
    {"temperature": 1.0, "top_k": 0, "min_p": 0.0, "xtc_probability": 0.5},
    {"temperature": 0.0, "grammar": "root ::= [a-z0-9 .,]+"},
    {"temperature": 0.9, "top_k": 5, "logit_bias": {13: -2.0, 11: 1.0}},
    {"temperature": 0.4, "logprobs": 2},
    {"temperature": 0.8, "stop": ["."]},
)
CACHES = ("fresh", "another answer", "cancelled", "another answer", "shorter prompt")
#: Draft tokens of each step; None: the controller decides.
DEPTHS = (None, 3, 15, 1, 7, None, 31)


@dataclass(frozen=True)
class Case:
    """One answer to a ``prompt`` with ``options``; ``cache``: what is cached before."""

    number: int
    prompt: str
    length: int
    options: dict[str, Any]
    cache: str
    depth: int | None


def cases(engine: localspec.Engine, arguments: argparse.Namespace, count: int) -> Iterator[Case]:
    """Yield ``count`` cases; as many as there are settings have the same prompt."""
    ids = engine.tokenize(read_text(arguments.prompts))
    draw = random.Random(arguments.seed)
    lengths = draw.sample(arguments.lengths, len(arguments.lengths)) if arguments.seed else arguments.lengths
    for number in range(count):
        setting = number % len(SETTINGS)
        if setting == 0:
            length = lengths[number // len(SETTINGS) % len(lengths)] + draw.randrange(4)
            start = draw.randrange(max(1, len(ids) - length))
            prompt = engine.detokenize(ids[start : start + length])
        options = {**SETTINGS[setting], "max_tokens": arguments.n}
        if options["temperature"]:
            options["seed"] = draw.randrange(2**32)
        cache = "fresh" if setting == 0 else CACHES[draw.randrange(len(CACHES))]
        yield Case(number, prompt, length, options, cache, DEPTHS[number % len(DEPTHS)])


def answer(engine: localspec.Engine, case: Case, *, prepare: bool) -> localspec.Completion:
    """Answer a case; ``prepare``: bring the cache to what the case names."""
    if prepare and case.cache == "fresh":
        engine.forget()
    elif prepare and case.cache == "shorter prompt":
        engine.generate(case.prompt[: 2 * len(case.prompt) // 3], max_tokens=3, temperature=1.0, seed=case.number)
    elif prepare and case.cache == "cancelled":
        stream = engine.stream(case.prompt, max_tokens=40, temperature=1.0, seed=case.number)
        for _ in range(case.number % 3 + 1):
            next(stream, None)
        stream.close()
    return engine.generate(case.prompt, **case.options)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", default="tiny")
    parser.add_argument("-d", "--draft", action="append", required=True)
    parser.add_argument("--prompts", type=Path, help="JSONL with messages, whose text is cut into prompts")
    parser.add_argument("--count", type=int, default=1000, help="answers with a drafter, over all drafters")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no further prompt after so long")
    parser.add_argument("--seed", type=int, default=0, help="of prompts, seeds and caches")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS, help="tokens of the prompts, up to 3 more")
    parser.add_argument("-n", type=int, default=20, help="tokens of an answer")
    parser.add_argument("-c", "--ctx", type=int, default=768)
    parser.add_argument("-t", "--threads", type=int)
    parser.add_argument("--exactness", default="prefer", choices=("require", "prefer", "off"))
    parser.add_argument("--pass-width", type=int, help="as the user's flag")
    parser.add_argument("--batch", type=int, help="most tokens of a prefill pass")
    return parser.parse_args()


def read_text(path: Path | None) -> str:
    """The text that prompts are cut from."""
    if path is None:
        return Path(__file__).read_text() + "Once upon a time there was a little owl. She lived in a tree. " * 20
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return "\n".join(message["content"] for row in rows for message in row["messages"])


def compare(engine: localspec.Engine, name: str, plain: Sequence[tuple[Case, Any]], totals: Counter[str]) -> None:
    """Answer every case with a drafter, and count and print those that differ from ``plain``."""
    controller = engine.control
    for case, expected in plain:
        only = engine.drafters[case.number % len(engine.drafters)]
        engine.control = controller if case.depth is None else FixedDepth(case.depth, only)
        done = answer(engine, case, prepare=True)
        totals["answers"] += 1
        totals[case.cache] += 1
        totals[done.exactness] += 1
        totals["tokens"] += len(done.tokens)
        totals["drafted"] += sum(one.proposed for one in done.stats.by_drafter.values())
        totals["accepted"] += sum(one.accepted for one in done.stats.by_drafter.values())
        totals["reused"] += done.stats.cached_tokens > 0
        if (done.tokens, done.text, done.logprobs) != (expected.tokens, expected.text, expected.logprobs):
            totals["different"] += 1
            at = first_difference(expected.tokens, done.tokens)
            print(f"{name} {case.number} ({case.length} tokens, {case.cache}, depth {case.depth}, {case.options}): "
                  f"differs at token {at}", flush=True)  # fmt: skip


def main() -> int:
    arguments = parse()
    if arguments.batch:  # no option of the product; wide passes are slow on lavapipe
        vars(loading)["ContextParams"] = partial(ContextParams, batch=arguments.batch)
    load = partial(
        localspec.load, arguments.model, ctx_size=arguments.ctx, threads=arguments.threads,
        exactness=arguments.exactness, pass_width=arguments.pass_width,
    )  # fmt: skip
    count = -(-arguments.count // len(arguments.draft))
    plain: list[tuple[Case, Any]] = []
    began = time.monotonic()
    with load("none") as engine:
        engine.measure()
        for case in cases(engine, arguments, count):
            if time.monotonic() - began > arguments.seconds / (1 + len(arguments.draft)) and not case.number % 10:
                break
            plain.append((case, answer(engine, case, prepare=False)))
    print(f"{len(plain)} plain answers in {time.monotonic() - began:.0f} s", flush=True)
    totals: Counter[str] = Counter()
    for draft in arguments.draft:
        with load(draft) as engine:
            engine.measure()
            print(f"{draft}: {'+'.join(engine.drafters)}, {engine.exactness}, {engine.passes}", flush=True)
            compare(engine, draft, plain, totals)
        print(f"  so far {dict(totals)} in {time.monotonic() - began:.0f} s", flush=True)
    print(f"{totals['answers']} answers, {totals['different']} differ from plain decoding with the same settings")
    return 1 if totals["different"] else 0


if __name__ == "__main__":
    sys.exit(main())
