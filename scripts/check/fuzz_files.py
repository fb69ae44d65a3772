"""Damaged model files through the real entries: each must end in one clear error or a valid load, and none may kill us.

    python -m scripts.check.fuzz_files --count 2000 --seed 0

GGUF files (the built-in pair, and every stored reference checkpoint converted) go through the header reader,
``localspec inspect``, ``gguf_convert.check``, ``localspec.load`` with its trial, and a few tokens of generation;
checkpoints (safetensors and the JSON files beside them) through ``gguf_convert.convert``, and what that
writes through ``localspec.load``. Of four files two are GGUF, one is safetensors and one JSON.
Every file has a process of its own, so that a death is seen and its memory is known. Files that fail are kept in
``--keep``. For Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

import gguf_convert  # noqa: E402
import localspec  # noqa: E402
import localspec.loading  # noqa: E402 - before the fork, so that a child costs milliseconds
from localspec.cli.inspect.facts import inspected  # noqa: E402
from localspec.cli.inspect.text import listing, metadata, summary  # noqa: E402
from localspec.gguf.header import read_header  # noqa: E402
from tests.helpers import mutations  # noqa: E402 - from the tests

REFERENCE = ROOT / "tests/gguf_convert/reference"
MODELS = ROOT / "localspec/models/builtin"
TIMEOUT_S = 120
#: What a process may use at all, in bytes of address space: far above need, far below the machine's memory.
BACKSTOP = 16 * 2**30
#: A refusal may take twice the file, and so much for Python's own objects; in a child also for the libraries' pages
#: that llama.cpp's way of raising an error touches.
FIXED, FIXED_CHILD = 2 * 2**20, 8 * 2**20


@dataclass(frozen=True)
class Source:
    """A sound file to damage. ``run`` gets the damaged file in a folder of its own, with its ``partners``."""

    name: str
    path: Path
    mutate: Callable[[Random], mutations.Mutation]
    run: Callable[[Path, Result], None]
    partners: tuple[Path, ...] = ()

    @property
    def whole(self) -> Path:
        """Return the parts that the damaged files of a checkpoint share."""
        return self.path.parent if self.partners else self.path


@dataclass
class Result:
    """The ``outcome`` of a file, its message, and the peak memory until a refusal, in bytes."""

    outcome: str = "failed: no result"
    message: str = ""
    python_peak: int = 0
    child_peak: int = 0
    size: int = 0

    def stage(self, name: str) -> None:
        self.outcome = name


def load_and_generate(target: Path, draft: Path | None, result: Result) -> None:
    result.stage("refused by load")
    with localspec.load(target, draft or "ngram", ctx_size=128, threads=1, exactness="off") as llm:
        result.stage("refused while generating")
        for options in ({"temperature": 0}, {"temperature": 0.8, "seed": 1}):
            llm.generate("Once upon a time, ☃ there", max_tokens=8, **options)
    result.stage("loads and generates")


def run_gguf(path: Path, result: Result, draft_for: Path | None = None, checkpoint: Path | None = None) -> None:
    result.stage("refused by the header")
    tracemalloc.start()
    try:
        header = read_header(path)
    finally:
        result.python_peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    inspection = inspected(header)
    for line in (*summary(inspection), *metadata(header), *listing(header)):
        if not line.isprintable():
            raise AssertionError(f"inspect prints {line!r}")
    if checkpoint is not None:
        try:
            gguf_convert.check(checkpoint, path)
        except localspec.LocalspecError as error:
            sentence(str(error))
    load_and_generate(draft_for or path, path if draft_for else None, result)


def run_checkpoint(path: Path, result: Result) -> None:
    result.stage("refused by convert")
    out = path.parent / "out.gguf"
    tracemalloc.start()
    try:
        gguf_convert.convert(path.parent, out, "Q8_0")
    except localspec.LocalspecError:
        if out.exists() or list(path.parent.glob("*.partial*")):
            raise AssertionError("a refused checkpoint left a file") from None
        raise
    finally:
        result.python_peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    if "assistant" in read_header(out).architecture:
        result.stage("converts (assistant)")
    else:
        load_and_generate(out, None, result)


def sources(folder: Path) -> Iterator[Source]:
    """Sound files: the pair, the references converted, and the references themselves."""
    tiny, assistant = MODELS / "tiny.gguf", MODELS / "tiny-assistant.gguf"
    yield gguf_source("tiny", tiny, run_gguf)
    yield gguf_source("tiny-assistant", assistant, lambda path, result: run_gguf(path, result, tiny))
    for config in sorted(REFERENCE.rglob("config.json")):
        checkpoint = config.parent
        name = str(checkpoint.relative_to(REFERENCE))
        out = folder / f"{name.replace('/', '-')}.gguf"
        try:
            gguf_convert.convert(checkpoint, out, "F32")
        except localspec.LocalspecError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
            continue
        if "assistant" not in read_header(out).architecture:
            yield gguf_source(name, out, partial(run_gguf, checkpoint=checkpoint))
        yield from checkpoint_sources(name, checkpoint)


def gguf_source(name: str, path: Path, run: Callable[[Path, Result], None]) -> Source:
    data = path.read_bytes()
    fields, end = mutations.gguf_fields(data)
    return Source(f"{name}.gguf", path, lambda random: mutations.mutate_gguf(data, random, fields, end), run)


def checkpoint_sources(name: str, checkpoint: Path) -> Iterator[Source]:
    files = tuple(path for path in sorted(checkpoint.iterdir()) if path.is_file())
    for path in files:
        others = tuple(other for other in files if other != path)
        if path.suffix == ".safetensors":
            data = path.read_bytes()
            mutate = lambda random, data=data: mutations.mutate_safetensors(data, random)  # noqa: E731
        elif path.suffix == ".json":
            text = path.read_text(encoding="utf-8")
            mutate = lambda random, text=text: mutations.mutate_json(text, random)  # noqa: E731
        else:
            continue
        yield Source(f"{name}/{path.name}", path, mutate, run_checkpoint, others)


def sentence(message: str) -> None:
    """A message is one line that can be read: no traceback, no half of a file."""
    if not message or "\n" in message or len(message) > 1500 or "Traceback" in message:
        raise AssertionError(f"not a sentence: {message[:2000]!r}")


def in_child(source: Source, path: Path) -> Result:
    """Run one file in a forked process; its death is a result."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        signal.alarm(TIMEOUT_S)
        resource.setrlimit(resource.RLIMIT_AS, (BACKSTOP, BACKSTOP))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with open(os.devnull, "w", encoding="utf-8") as nothing, redirect_stderr(nothing):
            result = attempt(source, path)
        os.write(write, json.dumps(vars(result)).encode()[:60000])
        os._exit(0)
    os.close(write)
    with open(read, "rb") as stream:
        answer = stream.read()
    _, status, _ = os.wait4(pid, 0)
    if status != 0:
        code = os.waitstatus_to_exitcode(status)
        return Result(f"failed: the process ended with {code}" if code != -signal.SIGALRM else "failed: hangs")
    return Result(**json.loads(answer))


def attempt(source: Source, path: Path) -> Result:
    result = Result(size=path.stat().st_size)
    try:
        source.run(path, result)
    except localspec.LocalspecError as error:
        result.message = str(error)
        if "breaks down on" in result.message:
            result.stage("refused by the trial: llama.cpp died in it")
        elif "in place of logits" in result.message:
            result.stage("refused by the trial: no numbers")
        try:
            sentence(result.message)
        except AssertionError as wrong:
            result.outcome, result.message = "failed: message", str(wrong)
    except BaseException as error:
        result.outcome, result.message = f"failed: {type(error).__name__}", repr(error)
    result.child_peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return result


def over(result: Result, sound: Result) -> str | None:
    """Name the resource of which a refusal used too much."""
    if not result.outcome.startswith("refused"):
        return None
    if result.python_peak > 2 * result.size + sound.python_peak + FIXED:
        result.message += f" ({result.python_peak} bytes, {sound.python_peak} for the sound file)"
        return "failed: too much memory"
    if sound.child_peak and result.child_peak > 2 * result.size + sound.child_peak + FIXED_CHILD:
        result.message += f" ({result.child_peak} bytes in the trial, {sound.child_peak} for the sound file)"
        return "failed: too much memory in the trial"
    return None


def place(source: Source, folder: Path, data: bytes) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for partner in source.partners:
        os.symlink(partner, folder / partner.name)
    (folder / source.path.name).write_bytes(data)
    return folder / source.path.name


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="sources whose name holds this")
    parser.add_argument("--show", default="failed", help="print files whose outcome begins so")
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "localspec-fuzz-failures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["LOCALSPEC_CACHE"] = str(folder / "cache")
        return fuzz(options, folder)


def fuzz(options: argparse.Namespace, folder: Path) -> int:
    found = [source for source in sources(folder) if options.only in source.name]
    sound: dict[Any, Result] = {}
    for source in found:
        if source.whole in sound:
            continue
        sound[source.whole] = result = in_child(source, place(source, folder / "sound", source.path.read_bytes()))
        if result.outcome not in ("loads and generates", "converts (assistant)"):
            print(f"the sound {source.name} ends as {result.outcome!r}: {result.message}")
            return 1
    kinds = [
        [source for source in found if source.path.suffix == suffix] for suffix in (".gguf", ".safetensors", ".json")
    ]
    turns = [kinds[at] or found for at in (0, 1, 0, 2)]
    counts: dict[str, Counter[str]] = {}
    began, worst = time.monotonic(), 0.0
    for i in range(options.count):
        source = turns[i % 4][(i // 4 * 2 + i % 4 // 2) % len(turns[i % 4])]
        data, told = source.mutate(Random(f"{options.seed} {i}"))
        result = in_child(source, place(source, folder / "mutant", data))
        result.outcome = over(result, sound[source.whole]) or result.outcome
        kind = source.path.suffix if source.path.suffix != ".json" else source.path.name
        counts.setdefault(kind, Counter())[result.outcome] += 1
        if result.outcome == "refused by the header":
            worst = max(worst, (result.python_peak - sound[source.whole].python_peak) / max(1, result.size))
        if result.outcome.startswith(("failed", options.show)):
            options.keep.mkdir(parents=True, exist_ok=True)
            kept = options.keep / f"{options.seed}-{i}-{source.name.replace('/', '-')}"
            kept.write_bytes(data)
            print(
                f"{i} {source.name}: {told}\n    {result.outcome}: {result.message[:400]}\n    kept as {kept}",
                flush=True,
            )
    report(counts, time.monotonic() - began, worst)
    return int(any(outcome.startswith("failed") for counter in counts.values() for outcome in counter))


def report(counts: dict[str, Counter[str]], seconds: float, worst: float) -> None:
    outcomes = sorted({outcome for counter in counts.values() for outcome in counter})
    for kind in sorted(counts):
        print(f"\n{kind}: {sum(counts[kind].values())}")
        for outcome in outcomes:
            if counts[kind][outcome]:
                print(f"  {counts[kind][outcome]:6d}  {outcome}")
    total: Any = sum(sum(counter.values()) for counter in counts.values())
    print(
        f"\n{total} files in {seconds:.0f} s; a refused header takes {worst:.2f} times the file more than a sound one"
    )


if __name__ == "__main__":
    sys.exit(main())
