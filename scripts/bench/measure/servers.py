"""Run llama-server as a peer: a process for each mode, over HTTP on this machine.

How it counts (tools/server/server-common.h, ``server_slot_stats``; server-context.cpp): ``prompt_ms`` runs from the
first prompt batch to the sampling of the first token. The drafter's pass over the prompt
(``common_speculative_process``) lies within it, as does ngram-mod's reading of the prompt. ``predicted_ms`` runs from
there to the last token, with all drafting and the drafter's second pass over each verified batch, and
``predicted_per_second`` divides all tokens but the first by it. :class:`measure.records.Run` counts the same way.
"""

from __future__ import annotations

import json
import shlex
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any

from localspec.bench.paired import token_digest
from scripts.bench.measure.machine import peak_rss
from scripts.bench.measure.records import Run, Unit

#: Modes of llama-server to compare with, by their name in tables.
PEER_SETS = {
    "issue": {
        "plain": "",
        "draft-simple 3": "--spec-type draft-simple --spec-draft-n-max 3",
        "draft-simple 15/0.8": "--spec-type draft-simple --spec-draft-n-max 15 --spec-draft-p-min 0.8",
        "ngram-simple": "--spec-type ngram-simple",
        "ngram-mod": "--spec-type ngram-mod",
        "ngram-mod,draft-simple": "--spec-type ngram-mod,draft-simple",
    },
    "draft": {"plain": "", "draft-simple 3": "--spec-type draft-simple --spec-draft-n-max 3"},
    "plain": {"plain": ""},
    "lookup": {
        "plain": "",
        **{
            name: f"--spec-type {name}"
            for name in ("ngram-simple", "ngram-map-k", "ngram-map-k4v", "ngram-mod", "ngram-cache")
        },
    },
}
_NAMES = {flags: name for modes in PEER_SETS.values() for name, flags in modes.items()}
#: Keep no old prompts: they would cost time and memory.
_QUIET = ("-np", "1", "--cache-ram", "0")
_WAIT_S, _ANSWER_S = 300.0, 3600.0


@dataclass(frozen=True)
class Sampling:
    """Sampling of both sides: greedy at ``temperature`` 0, else without truncation."""

    temperature: float = 0.0
    seed: int = 1

    def for_server(self) -> dict[str, Any]:
        if self.temperature == 0:
            return {"temperature": 0, "samplers": ["top_k"], "top_k": 1}
        return {"temperature": self.temperature, "samplers": ["temperature"], "seed": self.seed}

    def for_engine(self) -> dict[str, Any]:
        if self.temperature == 0:
            return {"temperature": 0}
        off = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}
        return {"temperature": self.temperature, "seed": self.seed, **off}


@contextmanager
def running(binary: str, arguments: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Run llama-server; yield its address and process id when it is ready, and end it."""
    with listening(lambda port: [binary, *arguments, "--host", "127.0.0.1", "--port", str(port), *_QUIET]) as found:
        yield f"http://127.0.0.1:{found[0]}", found[1]


@contextmanager
def listening(command: Callable[[int], Sequence[str]], ready: str = "/health") -> Iterator[tuple[int, int]]:
    """Run the server that ``command`` starts on a port; yield the port and the process id when it is ready, and end it.

    ``ready``: a path that it answers then.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command(port), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            _wait(process, f"http://127.0.0.1:{port}{ready}", shlex.join(command(port)), log)
            yield port, process.pid
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def server(binary: str, arguments: list[str]) -> Iterator[str]:
    """Run llama-server; yield its address when it is ready."""
    with running(binary, arguments) as (address, _):
        yield address


def _wait(process: subprocess.Popen[bytes], address: str, command: str, log: IO[bytes]) -> None:
    end = time.monotonic() + _WAIT_S
    while time.monotonic() < end:
        if process.poll() is not None:
            log.seek(0)
            last = log.read().decode(errors="replace").strip().splitlines()[-3:]
            raise SystemExit(f"the server ended at once: {command}\n" + "\n".join(last))
        with suppress(OSError):
            urllib.request.urlopen(address, timeout=1).close()
            return
        time.sleep(0.005)
    raise SystemExit(f"the server was not ready after {_WAIT_S:.0f} s: {command}")


def ask_server(address: str, tokens: Sequence[int], n: int, sampling: Sampling, *, reuse: bool = False) -> Run:
    """Measure at most ``n`` tokens after ``tokens``; ``reuse`` keeps the cached beginning of the prompt."""
    body = {
        "prompt": list(tokens), "n_predict": n, "cache_prompt": reuse, "return_tokens": True, **sampling.for_server()
    }  # fmt: skip
    request = urllib.request.Request(
        f"{address}/completion", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    began = time.perf_counter()
    try:
        with urllib.request.urlopen(request, timeout=_ANSWER_S) as response:
            reply = json.load(response)
    except urllib.error.HTTPError as error:
        raise SystemExit(f"llama-server refused: {error.read().decode(errors='replace')[:300]}") from error
    return run_of(reply, time.perf_counter() - began)


def run_of(reply: dict[str, Any], wall_s: float) -> Run:
    """Take times and counts from a reply of ``/completion``, whose tokens include the end token."""
    timings = reply["timings"]
    prompt_s, tokens = timings["prompt_ms"] / 1000, reply.get("tokens", [])
    return Run(
        generated=timings["predicted_n"],
        generate_s=timings["predicted_ms"] / 1000,
        prompt_tokens=timings["prompt_n"],
        prompt_s=prompt_s,
        first_s=prompt_s,
        wall_s=wall_s,
        digest=token_digest(tokens[:-1] if reply.get("stop_type") == "eos" else tokens),
        proposed=timings.get("draft_n"),
        accepted=timings.get("draft_n_accepted"),
    )


class Peer:
    """A mode of llama-server, with its process from :meth:`start` to :meth:`stop`."""

    def __init__(
        self,
        flags: str,
        binary: str,
        common: Sequence[str],
        draft: Sequence[str],
        ask: Callable[[str, Unit], Run],
        name: str | None = None,
    ) -> None:
        """Describe a mode. ``draft``: arguments to add for a mode that drafts with a model."""
        self.name, self.flags = f"llama-server {name or peer_name(flags)}", flags
        self._binary, self._ask = binary, ask
        extra = shlex.split(flags)
        self._arguments = [*common, *extra, *(draft if any("draft" in flag for flag in extra) else ())]
        self._stack = ExitStack()
        self._address, self.pid = "", 0

    @property
    def remembers(self) -> bool:
        """True if the mode keeps n-grams between requests, so that a repeated prompt is drafted from its own answer."""
        return "ngram-mod" in self.flags

    def start(self) -> None:
        self._address, self.pid = self._stack.enter_context(running(self._binary, self._arguments))

    def stop(self) -> int | None:
        """End the process and return its peak memory in bytes."""
        peak = peak_rss(self.pid) if self.pid else None
        self._stack.close()
        self.pid = 0
        return peak

    def answer(self, unit: Unit) -> Run:
        return self._ask(self._address, unit)


def peer_name(flags: str) -> str:
    """Return the name of flags in a set, else the flags."""
    return _NAMES.get(flags, flags)
