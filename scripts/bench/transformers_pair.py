#!/usr/bin/env python3
"""Times the built-in pair against transformers' generation: plain and assisted, on both sides, in alternation.

    python -m scripts.bench.transformers_pair --work DIR --torch-python PYTHON --prompts 16 --out transformers.jsonl

DIR holds the Hugging Face checkpoints ``target`` and ``assistant`` of the pair ``tiny`` (scripts.train.train_tiny_pair
writes them); PYTHON has torch and transformers==5.12.1, and runs in a process of its own that answers one prompt at a
time. Greedy, held-out prompts. transformers assists in three ways: four tokens drafted a step, twenty (its default),
and four with the mistakes of 5.12.1 mended (see tiny_pair/report.py). localspec runs the GGUF pair that it ships (Q8_0)
or the one named by -m and -d; transformers has the same weights in F32.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localspec.bench.paired import token_digest
from scripts.bench.measure.machine import about
from scripts.bench.measure.records import Run, RunFile, Unit, read
from scripts.bench.measure.schedule import Clock, end_tidily, measure
from scripts.bench.measure.transformers_report import table

ROOT = Path(__file__).resolve().parents[2]
MODULE = "scripts.bench.transformers_pair"
#: transformers' modes: tokens drafted a step, and whether its mistakes are mended.
THEIRS: dict[str, tuple[int, bool] | None] = {
    "plain": None, "assisted 4": (4, False), "assisted 20": (20, False), "assisted 4, mended": (4, True),
}  # fmt: skip
WARM_UP = [{"role": "user", "content": "Tell me a story about a clever fox."}]
Messages = list[dict[str, str]]


def serve(work: Path, threads: int) -> None:
    """Answer requests, one a line, ``{"mode", "messages", "n"}``, with a line each. Run by --torch-python."""
    import torch
    from transformers import DynamicCache, Gemma4AssistantForCausalLM, PreTrainedTokenizerFast
    from transformers.models.gemma4 import Gemma4ForCausalLM

    from scripts.train.tiny_pair.report import counted

    torch.set_num_threads(threads)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(work / "target")
    target = Gemma4ForCausalLM.from_pretrained(work / "target", dtype="float32")
    assistant = Gemma4AssistantForCausalLM.from_pretrained(work / "assistant", dtype="float32")
    own = assistant.generation_config
    own.num_assistant_tokens_schedule, own.assistant_confidence_threshold = "constant", 0.0

    def generate(mode: str, messages: Messages, n: int) -> dict[str, Any]:
        text = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        ids, how = tokenizer.encode(text, add_special_tokens=False), THEIRS[mode]
        given = torch.tensor([ids])
        # Left alone, transformers 5.12.1 makes a cache with sliding layers for assistance, which it then cannot crop.
        options: dict[str, Any] = {"assistant_model": assistant, "past_key_values": DynamicCache()} if how else {}
        own.num_assistant_tokens = how[0] if how else None
        with torch.no_grad(), counted(bool(how and how[1])) as counts:
            times = [time.perf_counter()]
            target.generate(given, attention_mask=torch.ones_like(given), do_sample=False, max_new_tokens=1)
            times.append(time.perf_counter())
            out = target.generate(
                given, attention_mask=torch.ones_like(given), do_sample=False, max_new_tokens=n, **options
            )
            times.append(time.perf_counter())
        new = out[0, len(ids) :].tolist()
        return {
            "ids": ids, "tokens": new, "first_s": times[1] - times[0], "wall_s": times[2] - times[1],
            "proposed": counts.proposed, "accepted": counts.accepted, "steps": counts.steps,
        }  # fmt: skip

    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(generate(request["mode"], request["messages"], request["n"])), flush=True)


@contextmanager
def torch_process(arguments: argparse.Namespace) -> Iterator[Callable[[str, Messages, int], dict[str, Any]]]:
    """Start transformers in a child process; return a function of mode, messages and n."""
    command = [arguments.torch_python, "-m", MODULE, "--serve"]
    command += ["--work", str(arguments.work), "-t", str(arguments.threads)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    assert process.stdin
    assert process.stdout

    def ask(mode: str, messages: Messages, n: int) -> dict[str, Any]:
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps({"mode": mode, "messages": messages, "n": n}) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"transformers ended: try {arguments.torch_python} -m {MODULE} --serve --work ...")
        reply: dict[str, Any] = json.loads(line)
        return reply

    try:
        yield ask
    finally:
        process.stdin.close()
        process.wait(timeout=60)


@dataclass
class Way:
    """A mode of either side."""

    name: str
    ask: Callable[[Messages], Run]
    prompts: dict[str, Messages]

    def answer(self, unit: Unit) -> Run:
        return self.ask(self.prompts[unit.prompt])


def run_of(reply: dict[str, Any]) -> Run:
    """Measure an answer of transformers. Its generation time is the whole less that of a one-token answer."""
    return Run(
        generated=len(reply["tokens"]),
        generate_s=max(reply["wall_s"] - reply["first_s"], 1e-9),
        prompt_tokens=len(reply["ids"]),
        prompt_s=reply["first_s"],
        first_s=reply["first_s"],
        wall_s=reply["wall_s"],
        digest=token_digest(reply["tokens"]),
        proposed=reply["proposed"] or None,
        accepted=reply["accepted"] if reply["proposed"] else None,
    )


def build_modes(arguments: argparse.Namespace, prompts: dict[str, Messages], stack: ExitStack) -> list[Way]:
    """Return all modes, warmed up. Exits if the two sides have different prompt tokens."""
    from scripts.bench.measure.engines import ask_engine, load_mode
    from scripts.bench.measure.servers import Sampling

    ask = stack.enter_context(torch_process(arguments))
    ways = []
    for spec in arguments.ours:
        engine, most = load_mode(spec, arguments.model, arguments.draft, 1024, arguments.threads)
        stack.enter_context(engine)
        ways.append(
            Way(
                f"localspec {spec}",
                lambda messages, e=engine, k=most: ask_engine(e, messages, arguments.n, Sampling(), k),  # type: ignore[misc]
                prompts,
            )
        )
    if ask("plain", WARM_UP, 1)["ids"] != engine.prompt_tokens(WARM_UP):
        raise SystemExit("the prompt's tokens differ: the checkpoints in --work are not those of the pair tiny")
    ways += [
        Way(f"transformers {mode}", lambda messages, m=mode: run_of(ask(m, messages, arguments.n)), prompts)  # type: ignore[misc]
        for mode in THEIRS
    ]
    for way in ways:
        way.ask(WARM_UP)
    return ways


def held_out(count: int) -> dict[str, tuple[str, Messages]]:
    """Return prompts by name, half of them for stories: (category, messages)."""
    from scripts.train.tiny_pair.corpus import held_out_prompts

    found: dict[str, list[Messages]] = {"story": [], "talk": []}
    for messages in held_out_prompts(40 * count):
        text = messages[-1]["content"]
        kind = found["story" if "story" in text or "tale" in text else "talk"]
        if len(kind) < count:
            kind.append(messages)
    names = [(kind, i) for i in range(count) for kind in found if i < len(found[kind])]
    return {f"{kind} {i}": (kind, found[kind][i]) for kind, i in names}


def main() -> None:
    arguments = options()
    if arguments.serve:
        serve(arguments.work, arguments.threads)
        return
    end_tidily()
    prompts = held_out(arguments.prompts)
    units = [Unit(name, kind, turn) for turn in range(arguments.repeat) for name, (kind, _) in prompts.items()]
    with ExitStack() as stack:
        ways = build_modes(arguments, {name: messages for name, (_, messages) in prompts.items()}, stack)
        sides = [{"name": way.name, "side": "ours" if way.name.startswith("localspec") else "peer"} for way in ways]
        setting = {"script": "bench_transformers", "model": arguments.model, "n": arguments.n,
                   "threads": arguments.threads, "modes": sides}  # fmt: skip
        book = RunFile(arguments.out, setting, {**about(), "command": " ".join(sys.argv)})
        measure(units, ways, book, Clock(arguments.minutes), pause=arguments.pause)
    for study in read(arguments.out):
        print("\n" + table(study).text())


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("tiny-work"))
    parser.add_argument("--torch-python", default=sys.executable)
    parser.add_argument("-m", "--model", default="tiny")
    parser.add_argument("-d", "--draft")
    parser.add_argument("--out", type=Path, default=Path("bench_transformers.jsonl"))
    parser.add_argument("--prompts", type=int, default=8, help="so many stories, and so many other questions")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--minutes", type=float, help="begin no prompt that would end after so many minutes")
    parser.add_argument("-n", type=int, default=128)
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("--pause", type=float, default=0.05, help="seconds between answers")
    parser.add_argument("--ours", action="append", help="default: none and auto")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.ours = arguments.ours or ["none", "auto"]
    return arguments


if __name__ == "__main__":
    main()
