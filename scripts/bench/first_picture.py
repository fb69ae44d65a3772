#!/usr/bin/env python3
"""Times from a question about a picture to the first word: `localspec serve` against llama-server, on the same files.

    python -m scripts.bench.first_picture --server llama-server [-m TARGET.gguf --mmproj MMPROJ.gguf] [-t 2] --rounds 5

A round starts each server, in turn, and asks: about a first picture, about three others, and again about each of those
three. Prints medians over all rounds of wall time and CPU time, and the medians of the rounds' ratios. The load of a
projector counts where it happens: llama-server has it before it is ready. Measure on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import base64
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from localspec.models.resolve import TINY_TARGET
from scripts.bench.measure.http_streams import ask_all
from scripts.bench.measure.servers import Sampling, listening
from scripts.bench.measure.tables import Table, number
from tests.helpers.media_files import png

PATH = "/v1/chat/completions"
#: Tokens of an answer.
ANSWER = 4
KINDS = ("first picture", "new picture", "second question")
Times = dict[str, list[tuple[float, float]]]


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and the children that it waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def question(picture: bytes, text: str, before: Sequence[dict[str, Any]] = ()) -> list[dict[str, Any]]:
    if before:
        return [*before, {"role": "user", "content": text}]
    url = "data:image/png;base64," + base64.b64encode(picture).decode()
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}]
    return [{"role": "user", "content": parts}]


@contextmanager
def ours(options: argparse.Namespace) -> Iterator[tuple[int, int]]:
    line = [sys.executable, "-m", "localspec", "serve", "-m", options.model, "--mmproj", str(options.mmproj)]
    line += ["-c", "4096", "-t", str(options.threads), "-d", options.draft]
    with listening(lambda port: [*line, "--port", str(port)]) as found:
        yield found


@contextmanager
def theirs(options: argparse.Namespace) -> Iterator[tuple[int, int]]:
    target = str(TINY_TARGET) if options.model == "tiny" else options.model
    line = [options.server, "-m", target, "--mmproj", str(options.mmproj), "-c", "4096", "-np", "1"]
    line += ["-t", str(options.threads), "--host", "127.0.0.1", "--jinja"]
    with listening(lambda port: [*line, "--port", str(port)]) as found:
        yield found


def measure(port: int, pid: int, seed: int, size: tuple[int, int]) -> Times:
    """Seconds to the first word, and CPU seconds of the whole answer, by kind of question."""
    found: Times = {kind: [] for kind in KINDS}

    def ask(kind: str, messages: list[dict[str, Any]]) -> str:
        body = {"messages": messages, "max_tokens": ANSWER, "stream": True, "stream_options": {"include_usage": True}}
        before = cpu_seconds(pid)
        (answer,), _ = ask_all(port, PATH, [{**body, **Sampling().for_server()}], 1)
        if kind:
            found[kind].append((answer.first_s, cpu_seconds(pid) - before))
        return answer.text

    ask("", [{"role": "user", "content": "Hello!"}])
    for number_ in range(4):
        picture = png(seed + number_, *size)
        messages = question(picture, "What is in the picture?")
        said = ask(KINDS[min(number_, 1)], messages)
        if number_:
            ask(KINDS[2], question(picture, "And what is it for?", [*messages, {"role": "assistant", "content": said}]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True, help="llama-server")
    parser.add_argument("-m", "--model", default="tiny")
    parser.add_argument("--mmproj", type=Path, default=TINY_TARGET.with_name("tiny-mmproj.gguf"))
    parser.add_argument("-d", "--draft", default="auto")
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, nargs=2, default=(640, 480), help="width and height of the pictures")
    options = parser.parse_args()
    rounds: list[dict[str, Times]] = []
    for index in range(options.rounds):
        sides = {"localspec": ours, "llama-server": theirs}
        rounds.append({})
        for name in sorted(sides, reverse=index % 2 == 1):
            with sides[name](options) as (port, pid):
                rounds[-1][name] = measure(port, pid, 10 * index, tuple(options.size))
    print(table(rounds).text())


def table(rounds: Sequence[dict[str, Times]]) -> Table:
    rows = []
    for kind in KINDS:
        row = [kind]
        for part in (0, 1):
            mine, peers = (
                [median(times[part] for times in found[name][kind]) for found in rounds]
                for name in ("localspec", "llama-server")
            )
            ratios = [a / max(b, 1e-3) for a, b in zip(mine, peers, strict=True)]
            row += [number(1000 * median(mine), 0), number(1000 * median(peers), 0), number(median(ratios))]
            row += [f"{min(ratios):.2f}–{max(ratios):.2f}"]
        rows.append(tuple(row))
    names = ("localspec, ms", "llama-server, ms", "ratio", "of rounds")
    return Table(
        "Time to the first word (left), CPU time of the answer (right)", ("", *names, *names), tuple(rows),
        f"Medians of {len(rounds)} rounds; ratios of each round's medians.",
    )  # fmt: skip


if __name__ == "__main__":
    main()
