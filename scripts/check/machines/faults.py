"""Break workers and links while a model answers: no conversation is lost, and this program never ends.

``python -m scripts.check.machines.faults MODEL --kinds pass,prefill --runs 50 --number 1``; each run prints nothing
unless it fails. ``--number`` keeps runs at the same time apart. A run is lost if an answer's tokens differ from those
without a fault, or if another error than a :class:`WorkerError` arrives.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread, Timer

import localspec
from localspec import Engine, WorkerError
from localspec.machines import machines
from scripts.check.machines.field import Machine, started
from tests.machines.fake_worker import FakeWorker, serving

#: Layers of the worker, tokens of an answer, seconds of a short cut.
_LAYERS, _TOKENS, _CUT_S = 10, 48, 5.0
#: Seconds after which a lost worker is given up here.
_PATIENCE_S = 1.0
#: Bytes of the disk that is too small for the cache.
_DISK = 60 * 2**20
log = logging.getLogger("localspec.machines")


def load(model: str, machine: Machine) -> Engine:
    return localspec.load(model, "ngram", rpc=f"{machine.address}={_LAYERS}", ctx_size=2048, threads=1)


def answer(engine: Engine, run: int, at: float | None = None, fault: Callable[[], None] = lambda: None) -> list[int]:
    """The tokens of an answer, with a fault after ``at`` seconds."""
    timer = Timer(at, fault) if at is not None else None
    if timer:
        timer.start()
    try:
        prompt = f"Write about number {run}, its neighbours and what they are good for."
        done = engine.generate(prompt, max_tokens=_TOKENS, temperature=0.9, seed=run)
        return list(done.tokens)
    finally:
        if timer:
            timer.join()


def killed(engine: Engine, machine: Machine, run: int, *, prefill: bool) -> None:
    """Kill the worker, in a pass or in the prefill, and start it again."""

    def fault() -> None:
        machine.kill_worker()
        machine.start_worker()

    if not prefill:
        began = time.perf_counter()
        wanted = answer(engine, run)
        at = random.random() * (time.perf_counter() - began)
        engine.forget()
        assert answer(engine, run, at, fault) == wanted
        return
    text = f"{run} is followed by {run + 1}, and so on. " * 40
    wanted = list(engine.generate(text, max_tokens=8, temperature=0.9, seed=run).tokens)
    engine.forget()
    threads = list[Thread]()

    def progress(done: int, total: int) -> None:
        if not threads and done >= random.random() * total / 2:
            threads.append(Thread(target=fault))
            threads[0].start()

    found = engine.generate(text, max_tokens=8, temperature=0.9, seed=run, progress=progress).tokens
    threads[0].join()
    assert list(found) == wanted


def cut(engine: Engine, machine: Machine, run: int, *, for_good: bool) -> None:
    """Cut the link for some seconds, or until the answer has ended with an error; then ask again."""
    began = time.perf_counter()
    wanted = answer(engine, run)
    at = random.random() * (time.perf_counter() - began) * 0.8
    engine.forget()

    def fault() -> None:
        machine.cut()
        if not for_good:
            time.sleep(_CUT_S)
            machine.cut(False)

    if not for_good:
        assert answer(engine, run, at, fault) == wanted
        return
    try:
        assert answer(engine, run, at, fault) == wanted  # the cut came after the last pass
    except WorkerError as error:
        if "The conversation is kept" not in str(error):
            raise
    machine.cut(False)
    machine.await_worker()
    engine.forget()
    assert answer(engine, run) == wanted


def refused(model: str, address: str, words: str) -> None:
    """The program ends with one sentence."""
    command = [sys.executable, "-m", "localspec", "generate", "-m", model, "--rpc", address, "-p", "Hello"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done
    assert words in done.stderr, done
    assert len(done.stderr.splitlines()) == 1, done


def full_disk(model: str, number: int, run: int) -> None:
    """Fill the disk of the cache with the first load; a second one must not read what was cut off."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", folder], check=True)
        try:
            wanted = None
            with started(Machine(number, flags=("-t", "1", "--cache", folder))) as (machine,):
                for _ in range(2):
                    with localspec.load(
                        model, "none", rpc=f"{machine.address}=2", ctx_size=256, threads=1, exactness="off"
                    ) as engine:
                        found = engine.generate(f"{run} is", max_tokens=8, temperature=0).tokens
                    assert wanted is None or found == wanted
                    wanted = found
                    machine.await_worker()
            kept = [path.stat().st_size for path in Path(folder).iterdir()]
            assert len(set(kept)) == 1, kept
        finally:
            subprocess.run(["umount", "-l", folder], check=True)


def run_kind(kind: str, model: str, runs: int, number: int) -> dict[str, object]:
    """Runs of a kind of fault, and those that were lost."""
    lost, began = 0, time.monotonic()

    def each(one: Callable[[int], None]) -> None:
        nonlocal lost
        for run in range(runs):
            try:
                one(run)
            except Exception as error:
                lost += 1
                print(f"{kind} {run}: {type(error).__name__}: {error}"[:600], file=sys.stderr, flush=True)
            if (run + 1) % 5 == 0:
                print(f"{kind}: {run + 1} runs, {lost} lost", file=sys.stderr, flush=True)

    if kind == "absent":
        each(lambda run: refused(model, f"127.0.0.1:{40000 + run}", "no worker listens at"))
    elif kind == "version":
        with serving(FakeWorker(version=(6, 1, 0))) as address:
            each(lambda run: refused(model, str(address), "speaks version 6.1.0"))
    elif kind == "disk":
        each(lambda run: full_disk(model, number, run))
    else:
        with started(Machine(number, 2, 1000)) as (machine,), load(model, machine) as engine:
            engine.measure()
            if kind in ("pass", "prefill"):
                each(lambda run: killed(engine, machine, run, prefill=kind == "prefill"))
            else:
                each(lambda run: cut(engine, machine, run, for_good=kind == "gone"))
    return {"kind": kind, "runs": runs, "lost": lost, "seconds": round(time.monotonic() - began)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--kinds", default="absent,version,pass,prefill,cut,gone")
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--number", type=int, default=1)
    options = parser.parse_args()
    log.setLevel(logging.ERROR)
    for kind in options.kinds.split(","):
        machines.PATIENCE_S = _PATIENCE_S if kind == "gone" else 60.0
        print(json.dumps(run_kind(kind, options.model, options.runs, options.number)), flush=True)


if __name__ == "__main__":
    main()
