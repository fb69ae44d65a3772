"""Run llama.cpp's quantiser in a child process (:mod:`localspec.llama.quantize`), which may abort or be killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, Protocol

from localspec.errors import ConvertError
from localspec.llama.quantize import GO, PlannedTensor, QuantizeJob


class QuantizerEvents(Protocol):
    """Handler of the child's messages."""

    def on_plan(self, plan: Sequence[PlannedTensor], /) -> None:
        """Handle the plan. Called before anything is written; may raise to refuse it."""

    def on_tensor(self, name: str, /) -> None:
        """Handle the start of a tensor."""

    def on_bytes(self, done: int, /) -> None:
        """Handle the current size of the output in bytes; called several times a second."""


def run_quantizer(job: QuantizeJob, events: QuantizerEvents) -> None:
    """Quantise ``job.source`` to ``job.destination``.

    Raises ConvertError with llama.cpp's reason, also after an abort. The child has ended when this function returns.
    """
    with tempfile.TemporaryFile() as errors:
        child = _start(errors)
        try:
            outcome = _talk(child, job, events)
            if outcome.get("done") and child.poll() in (None, 0):
                return
        finally:
            with suppress(OSError):
                child.kill()
            code = child.wait()
            for stream in (child.stdin, child.stdout):
                with suppress(OSError):
                    stream and stream.close()
        raise _failure(job, outcome, code, errors)


#: Program of the child. It imports from the search path of this process, and never from its working directory.
_CHILD = (
    "import json, sys; sys.path[:] = json.loads(sys.stdin.readline()); "
    "from localspec.llama.quantize import main; main()"
)


def _start(errors: IO[bytes]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-I", "-c", _CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, "GGML_NO_BACKTRACE": "1"},
        start_new_session=True,  # Ctrl-C is handled by the parent
    )


def _talk(child: subprocess.Popen[str], job: QuantizeJob, events: QuantizerEvents) -> dict[str, Any]:
    """Return the child's final message, or an empty one if it died before."""
    assert child.stdin is not None
    assert child.stdout is not None
    _send(child, f"{json.dumps(sys.path)}\n{json.dumps(asdict(job))}\n")
    for line in child.stdout:
        message = _message(line)
        if "plan" in message:
            events.on_plan([PlannedTensor(*row) for row in message["plan"]])
            _send(child, GO)
        elif "tensor" in message:
            events.on_tensor(message["tensor"])
        elif "bytes" in message:
            events.on_bytes(message["bytes"])
        elif "done" in message or "error" in message:
            return message
    return {}


def _send(child: subprocess.Popen[str], line: str) -> None:
    assert child.stdin is not None
    with suppress(BrokenPipeError):  # a dead child also closes its output, which ends the loop above
        child.stdin.write(line)
        child.stdin.flush()


def _message(line: str) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except ValueError:  # a line of some library
        return {}
    return message if isinstance(message, dict) else {}


def _failure(job: QuantizeJob, outcome: dict[str, Any], code: int, errors: IO[bytes]) -> ConvertError:
    name = Path(job.source).name
    if "error" in outcome:
        return ConvertError(f"llama.cpp cannot quantise {name}: {outcome['error'].rstrip('. ')}.")
    errors.seek(0)
    lines = [line.strip() for line in errors.read().decode("utf-8", errors="replace").splitlines() if line.strip()]
    last = f": {lines[-1].rstrip('. ')}" if lines else ""
    if code == -getattr(signal, "SIGKILL", 9):
        return ConvertError(
            f"llama.cpp was killed while it quantised {name}, perhaps because memory ran out; free some."
        )
    return ConvertError(
        f"llama.cpp failed on {name} (exit code {code}{last}). The file is damaged or of a kind that it cannot "
        "quantise: convert it again."
    )
