#!/usr/bin/env python3
"""Check on real files that the output is that of plain decoding, for any drafter, width and cache.

    python -m scripts.check.same_output -m TARGET.gguf -d ngram -d DRAFT.gguf --prompts PROMPTS.jsonl --count 500

Each of ``--count`` generations has a prompt, greedy or a seed at temperature 1, a drafter, a width (1 … 16 rows or
automatic), and a fresh cache or the second turn of a conversation. The plain text comes from an engine without a
drafter; for a second turn that one prefills the whole conversation anew, so that the reuse of the cache is checked as
well. Every difference is printed with its place; exits 1 when there is one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections import Counter
from typing import Any

import localspec
from localspec.control.base import FixedDepth

WIDTHS = [None, *range(1, 17)]  # rows of a batch: the last token and the draft
MORE = "Go on, and say more about the last point."


class Plain:
    """Plain decoding, each text made once."""

    def __init__(self, engine: localspec.Engine, n: int, anew: bool) -> None:
        self.engine, self.n, self.anew = engine, n, anew
        self._known: dict[str, Any] = {}

    def turn(self, messages: list[dict[str, str]], seed: int | None) -> localspec.Completion:
        key = json.dumps([messages, seed])
        if key not in self._known:
            self._known[key] = self.engine.chat(messages, max_tokens=self.n, **sampling(seed))
        return self._known[key]

    def two_turns(self, messages: list[dict[str, str]], seed: int | None) -> tuple[list[dict[str, str]], Any]:
        """The conversation before the second turn, and that turn with every token prefilled in one go."""
        key = json.dumps([messages, seed, 2])
        if key not in self._known:
            self.engine.forget()
            first = self.engine.chat(messages, max_tokens=32, **sampling(seed))
            longer = [*messages, {"role": "assistant", "content": first.text}, {"role": "user", "content": MORE}]
            if self.anew:
                self.engine._target.rewind(0)  # the conversation's tokens stay known, and nothing of them is cached
            self._known[key] = (longer, self.engine.chat(longer, max_tokens=self.n, **sampling(seed)))
        return self._known[key]


def sampling(seed: int | None) -> dict[str, Any]:
    return {"temperature": 0.0} if seed is None else {"temperature": 1.0, "seed": seed}


def first_difference(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("-d", "--draft", action="append", required=True)
    parser.add_argument("--prompts", required=True)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=1e9, help="stop early after so long, and say how many")
    parser.add_argument("-n", type=int, default=256)
    parser.add_argument("-c", "--ctx", type=int, default=2048)
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("--draft-max", type=int, help="as the user's flag; widths are then up to it, and automatic")
    parser.add_argument("--continued", action="store_true", help="the plain second turn goes on from its cache, too")
    parser.add_argument("--longest", type=int, default=2400, help="leave out prompts of more characters")
    parser.add_argument("--exactness", default="prefer", choices=("require", "prefer", "off"))
    parser.add_argument("--pass-width", type=int, help="as the user's flag, also for the plain engine")
    parser.add_argument("--depth", type=int, help="draft so many tokens at every step, however unsure and dear")
    return parser.parse_args()


def main() -> int:
    arguments = parse()
    with open(arguments.prompts, encoding="utf-8") as stream:
        prompts = [json.loads(line) for line in stream]
    prompts = [row for row in prompts if sum(len(m["content"]) for m in row["messages"]) <= arguments.longest]

    def load(draft: str) -> localspec.Engine:
        return localspec.load(
            arguments.model, draft, ctx_size=arguments.ctx, threads=arguments.threads, draft_max=arguments.draft_max,
            exactness=arguments.exactness, pass_width=arguments.pass_width,
        )  # fmt: skip

    engines = {draft: load(draft) for draft in arguments.draft}
    for engine in engines.values():
        engine.measure()
        if arguments.depth is not None:
            engine.control = FixedDepth(arguments.depth)
    plain = Plain(load("none"), arguments.n, not arguments.continued)
    for draft, engine in engines.items():
        print(f"{draft}: {'+'.join(engine.drafters)}, {engine.exactness}, {engine.passes}", flush=True)
    totals: Counter[str] = Counter()
    began = time.monotonic()
    # a text is drafted by every drafter and at several widths before the next: its plain decode is needed once
    rows = itertools.cycle(prompts)
    for number in range(arguments.count):
        if time.monotonic() - began > arguments.seconds:
            break
        if number % (2 * len(engines)) == 0:
            row = next(rows)
            seed = [None, *range(1, arguments.seeds + 1)][(number // (2 * len(engines))) % (arguments.seeds + 1)]
        draft = list(engines)[number % len(engines)]
        width = WIDTHS[number % len(WIDTHS)]
        again = number // len(engines) % 2 == 1
        check(engines[draft], plain, row, seed, draft, width, again, totals)
    print(
        f"{totals['texts']} generations, {totals['different']} differ "
        f"({totals['different fresh']} of {totals['fresh']} from a fresh cache); {totals['tokens']} tokens, "
        f"{totals['steps']} steps, {totals['drafted']} of them drafted; "
        f"{time.monotonic() - began:.0f} s; {rate(totals, 'drafted'):.1f} tok/s, plain {rate(totals, 'plain'):.1f}"
    )
    return 1 if totals["different"] else 0


def rate(totals: Counter[str], name: str) -> float:
    return 1000 * totals[f"{name} tokens"] / max(1, totals[f"{name} ms"])


def check(
    engine: localspec.Engine, plain: Plain, row: dict[str, Any], seed: int | None, draft: str, width: int | None,
    again: bool, totals: Counter[str],
) -> None:  # fmt: skip
    most = None if width is None else width - 1
    try:
        if again:
            longer, expected = plain.two_turns(row["messages"], seed)
            engine.forget()
            engine.chat(row["messages"], max_tokens=32, draft_max=most, **sampling(seed))
            done = engine.chat(longer, max_tokens=plain.n, draft_max=most, **sampling(seed))
        else:
            expected = plain.turn(row["messages"], seed)
            engine.forget()
            done = engine.chat(row["messages"], max_tokens=plain.n, draft_max=most, **sampling(seed))
    except localspec.PromptTooLongError:
        return
    how = "second turn" if again else "fresh"
    totals["texts"] += 1
    totals[how] += 1
    totals["tokens"] += len(done.tokens)
    totals["steps"] += done.stats.steps
    totals["drafted"] += done.stats.drafted_steps
    for name, stats in (("drafted", done.stats), ("plain", expected.stats)):
        totals[f"{name} tokens"] += stats.generated_tokens
        totals[f"{name} ms"] += round(1000 * stats.generate_s)
    if done.tokens != expected.tokens:
        totals["different"] += 1
        totals[f"different {how}"] += 1
        at = first_difference(expected.tokens, done.tokens)
        print(f"{row['id']} seed {seed} drafter {draft} width {width} {how}: differs at token {at}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
