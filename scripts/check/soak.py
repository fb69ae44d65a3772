#!/usr/bin/env python3
"""Use one engine for hours in random ways, and check every answer and the memory.

    python -m scripts.check.soak --minutes 120 [-m MODEL.gguf -d DRAFT.gguf] [--load 0.3]

Each round draws a verb (generate, stream, chat, their async forms, save and load of a state, forget, tokenize, a
schema, bad input), options with a fixed seed, and sometimes an end before its time: a ``cancel`` event, ``stop()``, an
abandoned stream, an interrupt by a signal, a cancelled task. Some rounds have four threads. An answer that ended by
itself must have the tokens that an engine without a drafter gives for the same request alone. Prints a line a minute:
rounds, ends, resident memory, open files, threads. Exits 1 after a wrong answer, an unexpected error or growing memory.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import localspec

#: Megabytes that resident memory may grow from the tenth part of the time to its end.
_GROWTH_MB = 25.0
_TEXTS = ("Once upon a time", "The little fox was", "Tom had a red ball. Tom had a red", "a b c a b c a b", "<|turn>x")
_SCHEMA = {"type": "json_schema", "json_schema": {"schema": {
    "type": "object", "properties": {"name": {"type": "string", "maxLength": 12}, "n": {"type": "integer"}},
    "required": ["name", "n"], "additionalProperties": False,
}}}  # fmt: skip
_BAD: tuple[dict[str, Any], ...] = (
    {"temperature": -1}, {"max_tokens": -5}, {"nothing": 1}, {"grammar": "root ::= ("}, {"top_p": 7}, {"seed": "x"},
)  # fmt: skip
_OPTIONS: tuple[dict[str, Any], ...] = (
    {"temperature": 0}, {"temperature": 0, "logprobs": 3}, {"temperature": 0.8, "seed": 3}, {"seed": 4, "top_k": 0},
    {"temperature": 1.2, "seed": 5, "min_p": 0.0, "top_p": 1.0}, {"temperature": 0, "stop": ["and"]},
    {"temperature": 0, "repeat_penalty": 1.2}, {"temperature": 0, "draft_max": 2},
    {"response_format": _SCHEMA, "seed": 6},
)  # fmt: skip


@dataclass(frozen=True)
class Request:
    """One call: the text, or the user's turns of a chat, and its options."""

    texts: tuple[str, ...]
    chat: bool
    options: int
    max_tokens: int

    def arguments(self) -> tuple[Any, dict[str, Any]]:
        """Return the prompt or the messages, and the keyword options."""
        options = {**_OPTIONS[self.options], "max_tokens": self.max_tokens}
        if "response_format" in options:
            options["max_tokens"] = 60  # fewer would be refused
        if not self.chat:
            return self.texts[0], options
        roles = ("user", "assistant")
        return [{"role": roles[i % 2], "content": text} for i, text in enumerate(self.texts)], options


@dataclass
class Soak:
    """The engine under test, one that decodes plainly, and what was seen."""

    engine: localspec.Engine
    plain: localspec.Engine
    folder: Path
    random: random.Random
    ends: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    _known: dict[Request, tuple[int, ...]] = field(default_factory=dict)

    def request(self) -> Request:
        """Draw a request; there are some hundreds, so that the plain answers are soon known."""
        chat = self.random.random() < 0.5
        texts = tuple(self.random.choice(_TEXTS) for _ in range(self.random.choice((1, 3)) if chat else 1))
        return Request(texts, chat, self.random.randrange(len(_OPTIONS)), self.random.choice((1, 12, 40)))

    def expected(self, request: Request) -> tuple[int, ...]:
        """Return the tokens of plain decoding from an empty cache."""
        if request not in self._known:
            what, options = request.arguments()
            self.plain.forget()
            verb = self.plain.chat if request.chat else self.plain.generate
            self._known[request] = verb(what, **options).tokens
        return self._known[request]

    def fault(self, text: str) -> None:
        """Print and count a fault."""
        self.faults.append(text)
        print(f"FAULT {text}", flush=True)

    def judge(self, request: Request, answer: localspec.Completion | None) -> None:
        """Count an answer's end. One that ended by itself must be the plain one."""
        reason = "abandoned" if answer is None else answer.finish_reason
        self.ends[reason] += 1
        if answer is not None and reason != "cancelled" and answer.tokens != self.expected(request):
            self.fault(f"{request}: {answer.tokens} in place of {self.expected(request)}")

    # Actions of a round.

    def ordinary(self) -> None:
        request = self.request()
        what, options = request.arguments()
        self.judge(request, (self.engine.chat if request.chat else self.engine.generate)(what, **options))

    def stream(self) -> None:
        request, last = self.request(), None
        what, options = request.arguments()
        most = self.random.choice((0, 1, 5, 10_000))
        chunks = (self.engine.stream_chat if request.chat else self.engine.stream)(what, **options)
        for number, chunk in enumerate(chunks):
            last = chunk.completion
            if number >= most:
                break
        if self.random.random() < 0.5:
            chunks.close()
        self.judge(request, last)

    def cancelled(self) -> None:
        request, cancel = self.request(), threading.Event()
        what, options = request.arguments()
        end = cancel.set if self.random.random() < 0.5 else self.engine.stop
        timer = threading.Timer(self.random.random() * 0.02, end)
        timer.start()
        verb = self.engine.chat if request.chat else self.engine.generate
        self.judge(request, verb(what, **options, cancel=cancel))
        timer.join()

    def interrupted(self) -> None:
        request = self.request()
        what, options = request.arguments()
        signal.setitimer(signal.ITIMER_REAL, 0.0002 + self.random.random() * 0.03)
        try:
            try:
                answer = (self.engine.chat if request.chat else self.engine.generate)(what, **options)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            self.judge(request, answer)
        except KeyboardInterrupt:
            self.ends["interrupted"] += 1

    def asynchronous(self) -> None:
        requests = [self.request() for _ in range(3)]
        limit = self.random.choice((0.005, 60.0))

        async def one(request: Request) -> localspec.Completion | None:
            what, options = request.arguments()
            verb = self.engine.achat if request.chat else self.engine.agenerate
            try:
                return await asyncio.wait_for(verb(what, **options), limit)
            except asyncio.TimeoutError:
                return None

        async def together() -> list[localspec.Completion | None]:
            return await asyncio.gather(*map(one, requests))

        for request, answer in zip(requests, asyncio.run(together()), strict=True):
            self.judge(request, answer)

    def threads(self) -> None:
        requests = [self.request() for _ in range(4)]
        answers: list[localspec.Completion | None] = [None] * 4

        def call(i: int) -> None:
            what, options = requests[i].arguments()
            try:
                answers[i] = (self.engine.chat if requests[i].chat else self.engine.generate)(what, **options)
            except Exception as error:
                self.fault(f"{requests[i]} in a thread: {error}")

        callers = [threading.Thread(target=call, args=(i,)) for i in range(4)]
        for caller in callers:
            caller.start()
        if self.random.random() < 0.3:
            self.engine.stop()
        for caller in callers:
            caller.join()
        for request, answer in zip(requests, answers, strict=True):
            self.judge(request, answer)

    def state(self) -> None:
        self.ordinary()
        path = self.folder / "state"
        try:
            self.engine.save_state(path)
        except localspec.InputError:  # nothing is cached
            return
        if self.random.random() < 0.5:
            self.engine.forget()
        self.engine.load_state(path)
        self.ordinary()

    def bad(self) -> None:
        try:
            self.engine.generate("x", **self.random.choice(_BAD))
            self.fault("bad input was taken")
        except localspec.LocalspecError:
            self.ends["refused"] += 1

    def other(self) -> None:
        ids = self.engine.tokenize(self.random.choice(_TEXTS))
        self.engine.detokenize(ids)
        self.engine.prompt_tokens([{"role": "user", "content": "x"}])
        self.engine.drafting = self.random.random() < 0.8
        if self.random.random() < 0.3:
            self.engine.forget()

    def round(self) -> None:
        """Do one thing; an error that nothing explains is a fault."""
        doings: list[Callable[[], None]] = [
            self.ordinary, self.ordinary, self.stream, self.cancelled, self.interrupted, self.asynchronous,
            self.threads, self.state, self.bad, self.other,
        ]  # fmt: skip
        doing = self.random.choice(doings)
        try:
            doing()
        except Exception:
            self.fault(f"{doing.__name__}: {traceback.format_exc()}")


def usage() -> dict[str, float]:
    """Return resident megabytes, open files and threads of this process."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    resident = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    return {"mb": round(resident, 1), "files": len(os.listdir("/proc/self/fd")), "threads": threading.active_count()}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", default="tiny")
    parser.add_argument("-d", "--draft", default="auto")
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--load", type=float, default=1.0, help="share of the time that rounds take; the rest is slept")
    return parser.parse_args()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    arguments = parse()
    signal.signal(signal.SIGALRM, _interrupt)
    settings: dict[str, Any] = {"ctx_size": 512, "threads": 1}
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as folder,
        localspec.load(arguments.model, arguments.draft, **settings) as engine,
        localspec.load(arguments.model, "none", **settings) as plain,
    ):
        soak = Soak(engine, plain, Path(folder), random.Random(arguments.seed))
        early, minute, rounds = usage(), 0.0, 0
        while (spent := time.monotonic() - began) < 60 * arguments.minutes:
            start = time.monotonic()
            soak.round()
            rounds += 1
            if spent >= 60 * minute:
                now = usage()
                early = now if minute <= arguments.minutes / 10 else early
                line = {
                    "minute": round(spent / 60, 1),
                    "rounds": rounds,
                    **now,
                    **soak.ends,
                    "faults": len(soak.faults),
                }
                print(json.dumps(line), flush=True)
                minute += 1
            time.sleep((time.monotonic() - start) * (1 / arguments.load - 1))
        grown = usage()["mb"] - early["mb"]
    minutes = (time.monotonic() - began) / 60
    print(f"{rounds} rounds in {minutes:.0f} minutes, {len(soak.faults)} faults; memory grew by {grown:.1f} MB")
    return 1 if soak.faults or grown > _GROWTH_MB else 0


if __name__ == "__main__":
    sys.exit(main())
