"""Try a file that is seen for the first time in a child process, because llama.cpp aborts the process on some files.

The child (:mod:`localspec.probe.load_test_child`) loads the files without a GPU and decodes a few tokens. It is always
ahead: this process loads what the child has loaded, and decodes when the child has decoded. Both read the same page
cache. The outcome is remembered for the files' size, time and hash and the build of llama.cpp, so a file is tried once.
The built-in files are not tried.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from localspec.errors import ModelFileError
from localspec.files import BUILT_IN, file_identity
from localspec.params import ContextParams
from localspec.probe import cache

#: Kind of the remembered facts.
_KIND = "trial"
#: Grows when the child tries more than before. Older outcomes then count no longer.
_REVISION = 1
#: The child's code: it imports from this process's path, not from the folder that it runs in.
_CHILD = (
    "import json, sys; sys.path[:] = json.loads(sys.stdin.readline()); "
    "from localspec.probe.load_test_child import main; main()"
)
#: Longest quotation from llama.cpp's log in a message, in characters, and the bytes of the log that are searched.
_MAX_QUOTED, _MAX_LOG = 300, 2**16
#: Exit codes of a process that was killed from outside.
_KILLED = {-int(getattr(signal, name)) for name in ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)}
#: Exit code of abort() on Windows.
_WINDOWS_ABORT = 3


@dataclass(frozen=True)
class _Case:
    """``files`` that are loaded together, the last of them on trial; ``role``: target, mtp, heads, model or mmproj."""

    role: str
    files: tuple[Path, ...]
    key: str

    @property
    def name(self) -> str:
        return " with ".join([str(self.files[-1]), *(path.name for path in self.files[:-1])])


class _NoChildError(Exception):
    """No child process could be started, or it could not import localspec."""


def try_files(
    target: Path, draft: Path | None = None, kind: str = "none", params: ContextParams | None = None
) -> list[str]:
    """Try the files that were not tried before, to the end; see :class:`Trial`. Returns its notices."""
    with Trial(target, draft, kind, params) as trial:
        trial.begin()
        notices = trial.loaded()
        trial.passed()
    return notices


def is_new(target: Path, draft: Path, params: ContextParams) -> bool:
    """Return True the first time that a draft model is asked about, unless it was tried on this machine.

    Raises :class:`ModelFileError` for one that failed, or that cannot be read.
    """
    cases = _cases_of(target, draft, "model", [params.cache_type_k, params.cache_type_v])
    key = next((case.key for case in cases if case.role == "model" and not _passed_before(case)), None)
    if key is None or cache.recall(_KIND, key) is not None:
        return False
    cache.remember(_KIND, key, {"loads": False})
    return True


class Trial:
    """A trial of the files that were not tried before, in a child process that ends with the block.

    The child starts with the block, and tries the files from :meth:`begin` on. Every method raises
    :class:`ModelFileError` for a file that llama.cpp aborts on or computes NaN with, now or when it was tried.
    """

    def __init__(
        self, target: Path, draft: Path | None = None, kind: str = "none", params: ContextParams | None = None
    ) -> None:
        """``kind`` of ``draft``: ``mtp`` or ``heads`` (tried on the target), ``model``, or ``mmproj``, a projector.

        A projector is tried alone. ``params``: the cache types to try.
        """
        self._types = [params.cache_type_k, params.cache_type_v] if params else [None, None]
        self._cases = [case for case in _cases_of(target, draft, kind, self._types) if not _passed_before(case)]
        #: Cases that are still to be loaded, and to be decoded with.
        self._unloaded, self._undecided = list(self._cases), list(self._cases)
        self._notices: list[str] = []
        self._stack = ExitStack()
        self._child: subprocess.Popen[str] | None = None

    def begin(self) -> None:
        """Let the child try the files."""
        if self._undecided:
            self._tell({"types": self._types, "cases": [[case.role, *map(str, case.files)] for case in self._cases]})

    def skip(self) -> None:
        """Try nothing: another process loads the files."""
        self._end()

    def loaded(self) -> list[str]:
        """Wait until the child has loaded the files. Returns a notice if no child can try them."""
        if self._unloaded:
            self._unless_without_child(self._await_ready)
        self._await("loaded", self._unloaded)
        return self._notices

    def passed(self) -> None:
        """Wait until the child has decoded with the files, which is then remembered."""
        self._await("passed", self._undecided)

    def __enter__(self) -> Trial:
        if self._cases:
            self._unless_without_child(self._start)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self) -> None:
        self._child, self._log = self._stack.enter_context(_child())
        self._lines = iter(self._child.stdout or ())
        self._tell(sys.path)

    def kill(self) -> None:
        """End the child, from any thread: what waits for it raises :class:`ModelFileError`."""
        if self._child is not None:
            self._child.kill()

    def _tell(self, message: object) -> None:
        assert self._child is not None
        with suppress(BrokenPipeError):  # then it never reports that it is ready
            print(json.dumps(message), file=self._child.stdin, flush=True)

    def _await_ready(self) -> None:
        assert self._child is not None
        if not any(line.strip() == "ready" for line in self._lines):
            raise _NoChildError(_last_line(self._log) or f"it ended with {_ending(self._child.wait())}")

    def _unless_without_child(self, step: Callable[[], None]) -> None:
        """Run a step that needs the child. Without one the files stay untried."""
        try:
            step()
        except _NoChildError as error:
            names = " and ".join(case.files[-1].name for case in self._cases)
            what = f"could not be tried in a process of its own first ({error}); a damaged file may end this one."
            self._notices.append(f"{names} {what}")
            self._end()

    def _await(self, word: str, pending: list[_Case]) -> None:
        """Wait until the child has reported ``word`` for each of the ``pending`` cases, in their order."""
        while pending:
            assert self._child is not None
            report = next(self._lines, "end").strip()
            if report == word:
                case = pending.pop(0)
                if pending is self._undecided:
                    cache.remember(_KIND, case.key, {"loads": True})
            elif report == "nan":
                raise _refusal(pending[0], f"{pending[0].name} computes NaN or infinity in place of logits")
            elif report == "refused":
                self._end()  # this process will meet the same refusal, with the right error
            elif report == "end":
                raise _ended_error(pending[0], self._child.wait(), self._log)

    def _end(self) -> None:
        """Wait for nothing more."""
        self._unloaded.clear()
        self._undecided.clear()


def _cases_of(target: Path, draft: Path | None, kind: str, types: Sequence[str | None]) -> list[_Case]:
    try:
        return _cases(target, draft, kind, types)
    except OSError as error:
        raise ModelFileError(f"{error.filename} cannot be read: {error.strerror or error}. Check the file.") from error


def _cases(target: Path, draft: Path | None, kind: str, types: Sequence[str | None]) -> list[_Case]:
    own = target.resolve().parent == BUILT_IN
    paths: dict[str, tuple[Path, ...]] = {} if own else {"target": (target,)}
    if draft is not None and kind == "mmproj":
        paths = {} if draft.resolve().parent == BUILT_IN else {"mmproj": (target, draft)}
    if draft is not None and kind == "model":
        paths["model"] = (draft,)
    if draft is not None and kind == "mtp" and not (own and draft.resolve().parent == BUILT_IN):
        paths["mtp"] = (target, draft)
    if kind == "heads":
        paths = {"heads": (target, draft) if draft else (target,)}
    if not paths:
        return []
    build = " ".join([_build(), *(str(name) for name in types if any(types))])
    identity = {path: file_identity(path) for path in {path for files in paths.values() for path in files}}
    return [
        _Case(role, files, " | ".join([f"{_REVISION} {role} {build}", *(identity[path] for path in files)]))
        for role, files in paths.items()
    ]


def _build() -> str:
    """Text that differs between builds of llama-cpp-python, without importing it."""
    try:
        spec = find_spec("llama_cpp")
        package = Path(spec.origin or "") if spec else Path()
        built = max((file.stat().st_mtime_ns for file in (package.parent / "lib").glob("*llama*")), default=0)
        return f"{package.read_text(encoding='utf-8')} {built}"  # the package's file holds its version
    except (OSError, ValueError):
        return "unknown"


def _passed_before(case: _Case) -> bool:
    """True if the case passed. Raises if it failed."""
    found = cache.recall(_KIND, case.key) or {}
    if found.get("refused"):
        raise ModelFileError(str(found["refused"]))
    return found.get("loads") is True


def _ended_error(case: _Case, code: int, log: IO[bytes]) -> ModelFileError:
    if code in _KILLED:  # the next try may pass
        return ModelFileError(
            f"the process that tried {case.name} was killed ({_ending(code)}), perhaps because the memory is full; "
            "close other programs, or use a smaller model."
        )
    if 0 <= code <= 255 and code != _WINDOWS_ABORT:  # Python ended, not llama.cpp
        return ModelFileError(f"{case.name} could not be tried ({_last_line(log) or _ending(code)}). Report this.")
    return _refusal(case, f"llama.cpp breaks down on {case.name} ({_reason(log, code)})")


def _refusal(case: _Case, what: str) -> ModelFileError:
    message = f"{what}. The file is damaged, or not for this version of llama.cpp; download or convert it again."
    cache.remember(_KIND, case.key, {"refused": message})
    return ModelFileError(message)


@contextmanager
def _child() -> Iterator[tuple[subprocess.Popen[str], IO[bytes]]]:
    """Start the child, and end it with the block. It also ends when this process does, with its standard input.

    Yields it and its log.
    """
    if getattr(sys, "frozen", False) or "py" not in Path(sys.executable or "").name.lower():
        raise _NoChildError("this program brings its own Python")
    with tempfile.TemporaryFile() as log:
        try:
            child = subprocess.Popen(
                [sys.executable, "-I", "-c", _CHILD],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                encoding="utf-8",
                errors="replace",
                env={**os.environ, "GGML_NO_BACKTRACE": "1"},
            )
        except (OSError, ValueError) as error:
            raise _NoChildError(str(error)) from error
        try:
            yield child, log
        finally:
            child.kill()
            child.wait()
            for stream in (child.stdin, child.stdout):
                with suppress(OSError):  # input that the child did not read
                    stream.close()  # type: ignore[union-attr] # both are pipes


def _reason(log: IO[bytes], code: int) -> str:
    """The line of llama.cpp's log with the reason, or the child's exit and the last line."""
    lines = _lines(log)
    for mark in ("GGML_ASSERT", "what():", ".cpp:", ".c:"):
        marked = [line for line in lines if mark in line]
        if marked:
            return _short(marked[-1])
    return f"{_ending(code)} after {_short(lines[-1])!r}" if lines else _ending(code)


def _last_line(log: IO[bytes]) -> str:
    lines = _lines(log)
    return _short(lines[-1]) if lines else ""


def _lines(log: IO[bytes]) -> list[str]:
    """The last lines of the log, without empty ones."""
    log.seek(max(0, log.seek(0, os.SEEK_END) - _MAX_LOG))
    text = log.read().decode("utf-8", errors="replace")
    lines = ("".join(c for c in line if c.isprintable()).strip() for line in text.splitlines())
    return [line for line in lines if line.strip(" .")]


def _short(line: str) -> str:
    """Cut a line to a quotation, without the folders that llama.cpp was built in."""
    words = [
        word.replace("\\", "/").rpartition("/")[2] if ".c" in word and ":" in word else word for word in line.split()
    ]
    return " ".join(words)[:_MAX_QUOTED].rstrip(".")


def _ending(code: int) -> str:
    with suppress(ValueError):
        return signal.Signals(-code).name if code < 0 else f"exit code {code:#x}" if code > 255 else f"exit code {code}"
    return f"signal {-code}"
