"""Answers of the product itself with every drafter, compared token by token with those of plain decoding.

``python -m scripts.check.gpu_check.answers RESULT TARGET ASSISTANT --seconds N``.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import localspec
from localspec.engine import Engine
from scripts.check.gpu_check.result import Result

#: Prompts whose texts repeat, so that lookup drafts, and (temperature, seed) of the answers to each.
PROMPTS = ("a b c d e f " * 12, "hello world hello world hello", "one two three four " * 20)
SETTINGS = ((0.0, 0), (0.3, 1), (1.0, 2))


def answers(engine: Engine, tokens: int, result: Result) -> list[dict[str, Any]]:
    """Tokens and counts of the answers, as many as there is time for."""
    found: list[dict[str, Any]] = []
    for prompt in PROMPTS:
        for temperature, seed in SETTINGS:
            if result.left < 0:
                return found
            done = engine.generate(prompt, max_tokens=tokens, temperature=temperature, seed=seed)
            stats = done.stats
            found.append(
                {
                    "tokens": list(done.tokens),
                    "exactness": done.exactness,
                    "proposed": sum(count.proposed for count in stats.by_drafter.values()),
                    "accepted": sum(count.accepted for count in stats.by_drafter.values()),
                    "seconds": stats.generate_s,
                }
            )
    return found


def compared(plain: list[dict[str, Any]], drafted: list[dict[str, Any]]) -> dict[str, Any]:
    """Count texts that differ from those of plain decoding, and sum up the rest."""
    pairs = list(zip(plain, drafted, strict=False))
    tokens = sum(len(one["tokens"]) for _, one in pairs)
    seconds = sum(one["seconds"] for _, one in pairs)
    return {
        "answers": len(pairs),
        "differing": sum(one["tokens"] != other["tokens"] for one, other in pairs),
        "tokens": tokens,
        "tokens_per_s": tokens / seconds if seconds else None,
        "proposed": sum(one["proposed"] for _, one in pairs),
        "accepted": sum(one["accepted"] for _, one in pairs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("result", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("assistant", type=Path)
    parser.add_argument("--about", default="")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--ctx", type=int, default=1024)
    parser.add_argument("--widths", type=int, nargs="*", default=[4, 8], help="fixed widths of passes to try as well")
    arguments = parser.parse_args()
    result = Result(arguments.result, arguments.seconds, about=arguments.about, target=arguments.target.name)
    found: dict[str, Any] = {}
    for width in (None, *arguments.widths):
        plain: list[dict[str, Any]] = []
        for drafter in ("none", "ngram", str(arguments.assistant)):
            if result.left < 0:
                return
            with localspec.load(arguments.target, drafter, ctx_size=arguments.ctx, pass_width=width) as engine:
                measured = engine.measure(max(1.0, result.left / 2))
                given = answers(engine, arguments.tokens, result)
                plain = plain or given
                about = {
                    "exactness": engine.exactness,
                    "pass_width": engine.passes.width,
                    "measured": measured,
                    "notices": list(engine.notices),
                }
            name = "mtp" if drafter == str(arguments.assistant) else drafter
            key = name if width is None else f"{name}, width {width}"
            found[key] = {**compared(plain, given), **about}
            result.add("answers", found)
    result.add("complete", True)


if __name__ == "__main__":
    main()
