"""Time passes, plain decoding and drafting over links of several delays and rates, beside llama-server.

``python -m scripts.bench.machines MODEL LLAMA_SERVER --into FILE --only 0,1``: alone on the machine; parts of a run
collect in the file. The links are those of :mod:`scripts.check.machines.link`: the delay is that of a round trip, and
the program that plays the links moves at most 60 MB/s. Every process has one thread, and each worker runs on this
machine. ``--prove`` only proves exactness, which is remembered, so that this takes no time of a run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import localspec
from localspec import Completion, Engine
from scripts.check.machines.field import Machine, started

#: Layers of the 0.5B that go to workers, divided evenly; tokens of an answer; its repeats; the port of llama-server.
_LAYERS, _TOKENS, _REPEATS, _PORT = 18, 64, 2, 8971
#: llama-server's ways: its own placement of the output, the output on this machine, and drafts besides.
_HERE = ("-ot", "^(output|token_embd)=CPU")
_WAYS = {
    "plain": (),
    "output here": _HERE,
    "drafts": (*_HERE, "--spec-type", "ngram-simple"),
}
_CODE = """def total(items, tax):
    amount = 0.0
    for item in items:
        if item.price is None:
            raise ValueError("an item has no price")
        amount += item.price * item.count
    return round(amount * (1.0 + tax), 2)
"""
_PROMPTS = {
    "edit": f"Rename the variable amount to cost, and print the whole function:\n\n{_CODE}",
    "chat": "Explain in a few sentences why the sky is blue.",
}


@dataclass(frozen=True)
class SetUp:
    """``delay_ms``: of a round trip."""

    workers: int
    delay_ms: float = 0.2
    mbit: float = 1000.0

    @property
    def name(self) -> str:
        return f"{self.workers} workers, {self.delay_ms:g} ms, {self.mbit:g} Mbit/s"


#: Growth with workers, delays and rates with two, then two and three behind links that cost nothing but their program.
SETUPS = [
    *(SetUp(n) for n in (0, 1, 2, 3)),
    SetUp(2, 0.2, 100),
    *(SetUp(2, delay, rate) for delay in (2, 20) for rate in (1000, 100)),
    *(SetUp(n, 0, 100_000) for n in (1, 2, 3)),
]


def measured(engine: Engine) -> dict[str, object]:
    """Milliseconds of passes; for each prompt tokens a second plain and with drafts, and what the control drafted."""
    began = time.perf_counter()
    engine.measure()
    costs = engine.costs
    assert costs is not None
    found: dict[str, object] = {
        "measured_s": round(time.perf_counter() - began, 1),
        "exactness": engine.exactness,
        "pass_ms": {n: round(1000 * costs.verify.seconds(n), 2) for n in (1, 2, 4, 8, 16, 32)},
    }
    if engine.model.plan:
        found["predicted_ms"] = round(1000 * engine.model.plan.seconds, 2)
        found["links_ms"] = round(1000 * sum(share.link_s for share in engine.model.plan.shares), 2)
    for name, prompt in _PROMPTS.items():
        plain, drafted = list[Completion](), list[Completion]()
        for engine.drafting in (False, True) * _REPEATS:
            engine.forget()
            done = engine.chat([{"role": "user", "content": prompt}], temperature=0, max_tokens=_TOKENS)
            (drafted if engine.drafting else plain).append(done)
        found[name] = {
            "plain": rate(plain),
            "drafted": rate(drafted),
            "same": len({done.tokens for done in plain + drafted}) == 1,
            "tokens": sum(done.stats.generated_tokens for done in drafted),
            "passes": sum(done.stats.steps for done in drafted),
            "drafted_passes": sum(done.stats.drafted_steps for done in drafted),
            "draft_tokens": sum(done.stats.proposed for done in drafted),
            "accepted": sum(done.stats.accepted for done in drafted),
        }
    return found


def rate(answers: Sequence[Completion]) -> float:
    """Tokens a second of several answers."""
    seconds = sum(done.stats.generated_tokens / done.stats.tokens_per_s for done in answers)
    return round(sum(done.stats.generated_tokens for done in answers) / seconds, 2)


def llama_server(program: str, model: str, machines: tuple[Machine, ...], way: Sequence[str]) -> dict[str, float]:
    """Tokens a second of llama-server with as many layers on the same workers; it keeps the first layers here."""
    workers = ["--rpc", ",".join(str(machine.address) for machine in machines)] if machines else []
    layers = ["-ngl", str(_LAYERS + 1 if machines else 0), *(way if machines else way[2:])]
    command = [program, "-m", model, "--port", str(_PORT), "-c", "2048", "-t", "1", "-fa", "on", *workers, *layers]
    command += ["-ctk", "q8_0", "-ctv", "q8_0", "--no-warmup", "-np", "1"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _await(server)
        return {name: _ask(prompt) for name, prompt in _PROMPTS.items()}
    finally:
        server.kill()
        server.wait()


def _await(server: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{_PORT}/health", timeout=1):
                return
        except OSError:
            if server.poll() is not None:
                raise RuntimeError("llama-server ended") from None
            time.sleep(0.1)
    raise RuntimeError("llama-server does not answer")


def _ask(prompt: str) -> float:
    body = {"messages": [{"role": "user", "content": prompt}], "temperature": 0, "max_tokens": _TOKENS}
    request = urllib.request.Request(
        f"http://127.0.0.1:{_PORT}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        return round(json.load(answer)["timings"]["predicted_per_second"], 2)


def run(setup: SetUp, model: str, server: str, *, prove: bool) -> dict[str, object]:
    machines = tuple(Machine(100 + i, setup.delay_ms, setup.mbit) for i in range(setup.workers))
    with started(*machines):
        each = _LAYERS // max(1, setup.workers)
        rpc = [f"{machine.address}={each}" for machine in machines] or None
        began = time.perf_counter()
        with localspec.load(
            model, "ngram", rpc=rpc, ctx_size=2048, threads=1, cache_type_k="q8_0", cache_type_v="q8_0"
        ) as engine:
            result: dict[str, object] = {**vars(setup), "load_s": round(time.perf_counter() - began, 1)}
            if prove:
                engine.measure()
                return result
            result.update(measured(engine))
        peers = {}
        for name, way in _WAYS.items():
            for machine in machines:
                machine.await_worker()
            peers[name] = llama_server(server, model, machines, way)
        return {**result, "llama_server": peers}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("server")
    parser.add_argument("--only", help="Numbers of the set-ups, separated by commas.")
    parser.add_argument("--into", type=Path, help="A file of JSON; what it has of other set-ups stays.")
    parser.add_argument("--prove", action="store_true", help="Only prove exactness.")
    options = parser.parse_args()
    chosen = [SETUPS[int(i)] for i in options.only.split(",")] if options.only else SETUPS
    for setup in chosen:
        result = run(setup, options.model, options.server, prove=options.prove)
        print(json.dumps(result), flush=True)
        if options.into and not options.prove:
            known = json.loads(options.into.read_text()) if options.into.exists() else {}
            options.into.write_text(json.dumps({**known, setup.name: result}, indent=1) + "\n")


if __name__ == "__main__":
    main()
