#!/usr/bin/env python3
"""State what prediction heads and recurrent states cost: prompts, catching up, checkpoints, states for going back.

    python -m scripts.bench.heads_costs -m HYBRID.gguf

CPU seconds of one thread, medians of rounds in which the variants alternate; so the machine need not be quiet. The file
must have heads in it (scripts/train/tiny_hybrid/widen.py makes one at real widths).
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import process_time

import numpy as np

from localspec.gguf.header import read_header
from localspec.llama.binding import staging_function
from localspec.llama.context import LlamaContext
from localspec.llama.heads import LlamaHeadContext
from localspec.llama.model import LlamaModel
from localspec.memory.estimate import memory_text, recurrent_state
from localspec.params import ContextParams

CATCH_UP = (1, 4, 16, 64, 256)


def seconds(work: Callable[[], object]) -> float:
    began = process_time()
    work()
    return process_time() - began


def prefill(context: LlamaContext, tokens: list[int]) -> Callable[[], None]:
    def run() -> None:
        context.rewind(0)
        for at in range(0, len(tokens), context.pass_width):
            context.decode(tokens[at : at + context.pass_width], "none")

    return run


def alternate(rounds: int, works: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median seconds of each of ``works``."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name in random.Random(number).sample(list(works), len(works)):
            taken = seconds(works[name])
            if number:  # the first warms up
                found[name].append(taken)
    return {name: median(values) for name, values in found.items()}


def prompts(model: LlamaModel, params: ContextParams, tokens: list[int], rounds: int) -> None:
    """The last layer of a prompt for its last row, for all rows, and with the rows kept for heads."""
    contexts = [LlamaContext(model, params, 1024, keeps_rows=kept) for kept in (False, False, True)]
    staging_function("llama_set_embeddings_nextn")(contexts[0].handle, True, True)
    names = ("last row", "all rows", "kept rows")
    found = alternate(rounds, {name: prefill(one, tokens) for name, one in zip(names, contexts, strict=True)})
    print(f"prompt of {len(tokens)}: {1000 * found['last row']:.1f} ms with the last layer for the last token; "
          f"speed for all tokens {found['last row'] / found['all rows']:.3f}, with rows kept "
          f"{found['last row'] / found['kept rows']:.3f} of it")  # fmt: skip
    for one in contexts:
        one.close()


def catching_up(model: LlamaModel, params: ContextParams, tokens: list[int], rounds: int) -> None:
    """Heads that read some tokens, and guess; beside a token of the target."""
    target = LlamaContext(model, params, 1024, keeps_rows=True)
    heads = LlamaHeadContext(model, params, target)
    prefill(target, tokens)()

    def single() -> None:
        target.rewind(len(tokens))
        target.decode(tokens[:1])

    works: dict[str, Callable[[], object]] = {"target": single}
    counts = [count for count in CATCH_UP if count < len(tokens)]
    for count in counts:
        start = len(tokens) - count
        works[f"{count}"] = lambda start=start: heads.read(tokens[start:], start, goes_on=False)  # type: ignore[misc]
    works["guess"] = lambda: heads.step([tokens[-1], 7], heads.hidden().copy())
    found = alternate(rounds, works)
    print(f"a token of the target {1000 * found['target']:.2f} ms; of it: a further guess "
          f"{found['guess'] / found['target']:.3f}, heads that read "
          + ", ".join(f"{count} tokens {found[str(count)] / found['target']:.3f}" for count in counts))  # fmt: skip
    heads.close()
    target.close()


def states(model: LlamaModel, params: ContextParams, tokens: list[int], rounds: int) -> None:
    """A checkpoint made and returned to; passes with states for going back and without."""
    back = LlamaContext(model, params, 1024, keeps_rows=False)
    plain = LlamaContext(model, ContextParams(threads=1, rollback=0), 1024)
    for one in (back, plain):
        prefill(one, tokens)()
    native = back._recurrent
    assert native is not None
    kept = native.saved()
    works: dict[str, Callable[[], object]] = {
        "made": native.saved, "returned to": lambda: native._restore(kept),
    }  # fmt: skip
    for name, one in (("with", back), ("without", plain)):
        for width in (1, 4):
            works[f"{width} {name}"] = lambda one=one, width=width: one.decode(tokens[:width])  # type: ignore[misc]
    found = alternate(rounds, works)
    size = recurrent_state([model.header])
    print(f"state {memory_text(size)}, {back.rollback} more for going back, a checkpoint {memory_text(len(kept))}; "
          f"of a token of the target ({1000 * found['1 without']:.2f} ms): a checkpoint is made in "
          f"{found['made'] / found['1 without']:.3f}, returned to in {found['returned to'] / found['1 without']:.3f}; "
          "passes with states for going back take " + ", ".join(
              f"{found[f'{n} with'] / found[f'{n} without']:.3f} for {n}" for n in (1, 4)) + " rows")  # fmt: skip
    for one in (back, plain):
        one.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--prompt", type=int, default=512, help="tokens")
    args = parser.parse_args()
    params = ContextParams(threads=1, rollback=4)
    model = LlamaModel(read_header(args.model), params, heads=True)
    tokens = np.random.default_rng(1).integers(300, 2000, args.prompt).tolist()
    prompts(model, params, tokens, args.rounds)
    catching_up(model, params, tokens, args.rounds)
    states(model, params, tokens, args.rounds)
    model.close()


if __name__ == "__main__":
    main()
