"""The parent's side of llama.cpp's quantiser: starts the child process, listens, and ends it whatever happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any

from localspec.errors import ConvertError
from localspec.llama.quantize import GO, PlannedTensor, QuantizeJob


def run_quantizer(
    job: QuantizeJob,
    destination: Path,
    accept: Callable[[list[PlannedTensor]], None],
    on_tensor: Callable[[str], None],
    on_bytes: Callable[[int], None],
) -> None:
    """Quantise ``job.source`` to ``destination``.

    ``accept`` is given the plan before anything is written and may raise; ``on_tensor`` hears the name of each tensor
    that is begun, ``on_bytes`` the size of the output now and then. Raises ConvertError with llama.cpp's reason, also
    when it aborted; the child never outlives this call.
    """
    with tempfile.TemporaryFile() as errors:
        child = _start(errors)
        try:
            outcome = _talk(child, replace(job, destination=str(destination)), accept, on_tensor, on_bytes)
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


#: The child finds what this process finds, and nothing in the folder that it runs in.
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
        start_new_session=True,  # Ctrl-C is the parent's to handle
    )


def _talk(
    child: subprocess.Popen[str],
    job: QuantizeJob,
    accept: Callable[[list[PlannedTensor]], None],
    on_tensor: Callable[[str], None],
    on_bytes: Callable[[int], None],
) -> dict[str, Any]:
    """The child's last word, or nothing when it died without one."""
    assert child.stdin is not None
    assert child.stdout is not None
    _tell(child, f"{json.dumps(sys.path)}\n{json.dumps(asdict(job))}\n")
    for line in child.stdout:
        message = _message(line)
        if "plan" in message:
            accept([PlannedTensor(*row) for row in message["plan"]])
            _tell(child, GO)
        elif "tensor" in message:
            on_tensor(message["tensor"])
        elif "bytes" in message:
            on_bytes(message["bytes"])
        elif "done" in message or "error" in message:
            return message
    return {}


def _tell(child: subprocess.Popen[str], line: str) -> None:
    assert child.stdin is not None
    with suppress(BrokenPipeError):  # it died, which the end of its output says as well
        child.stdin.write(line)
        child.stdin.flush()


def _message(line: str) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except ValueError:  # something else wrote to the child's output
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
        return ConvertError(f"llama.cpp was killed while it quantised {name}, perhaps for want of memory; free some.")
    return ConvertError(
        f"llama.cpp gave up on {name} (exit code {code}{last}). The file is damaged or of a kind that it cannot "
        "quantise: convert it again."
    )
