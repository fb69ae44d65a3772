"""Contexts in the child process."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from localspec.errors import BackendError
from localspec.gguf.header import GgufHeader
from localspec.llama.devices import Split
from localspec.llama.model import LlamaModel
from localspec.llama.passes import BatchPart, Native
from localspec.llama.rows import check_finite
from localspec.machines.cells import Cells
from localspec.machines.jobs import Job, Opening
from localspec.machines.machines import Machines
from localspec.machines.shared import SharedFile, SharedRows, rows_bytes
from localspec.params import ContextParams
from localspec.protocols import Rows


def load_remote(
    machines: Machines,
    header: GgufHeader,
    params: ContextParams,
    split: Split | None,
    verbose: bool = False,
    progress: Callable[[float], None] | None = None,
) -> LlamaModel:
    """Load a model in the child, and its facts and vocabulary here. ``split``: its layers on the workers."""
    number = machines.load(header.path, params, split, verbose=verbose, progress=progress)
    return LlamaModel(header, params, verbose=verbose, split=split, remote=RemoteModel(machines, number))


class RemoteModel:
    """Makes contexts of one of the child's models; see :class:`localspec.llama.passes.OpensContexts`."""

    def __init__(self, machines: Machines, number: int) -> None:
        self._machines, self._number = machines, number
        self.cells_are_free = False

    def open(
        self,
        model: LlamaModel,
        options: Any,
        n_batch: int,
        n_ctx: int,
        *,
        n_hidden: int,
        fast: bool,
        beside: Native | None,
    ) -> RemoteContext:
        assert beside is None or isinstance(beside, RemoteContext)
        number = None if beside is None else beside.number
        file = SharedFile(rows_bytes(int(options.n_outputs_max), model.n_vocab, n_hidden))
        opening = Opening(self._number, bytes(options), n_batch, n_ctx, n_hidden, fast, number, file.path)
        return RemoteContext(self, self._machines, opening, file, options, model)


class RemoteContext:
    """A context of a model in the child; see :class:`localspec.llama.passes.Native`.

    It keeps the passes that its cache consists of. A context beside another one has no cache of its own.
    """

    def __init__(
        self,
        opener: RemoteModel,
        machines: Machines,
        opening: Opening,
        file: SharedFile,
        options: Any,
        model: LlamaModel,
    ) -> None:
        self._opener, self._widest = opener, int(options.n_ubatch)
        self._machines, self._file, self._model, self.opening = machines, file, model, opening
        self._shared = SharedRows(file.path, int(options.n_outputs_max), model.n_vocab, opening.n_hidden)
        self.threads, self._kept = int(options.n_threads), Cells()
        self._job, self._adaptive = Job(0, ()), False
        self.number = -1
        self.cells = machines.open(self)

    @property
    def handle(self) -> Any:
        raise BackendError("this context is in another process; load the model without --rpc for this.")

    def fill(self, tokens: Sequence[int], start: int, n_out: int, sequence: int = 0) -> None:
        n = len(tokens)
        self._job = Job(sequence, (BatchPart(tuple(map(int, tokens)), start, range(n - n_out, n)),))

    def fill_neighbours(self, first: int, parts: Sequence[BatchPart]) -> int:
        self._job = Job(first, tuple(BatchPart(tuple(map(int, p.tokens)), p.start, p.outputs) for p in parts))
        return sum(len(part.tokens) for part in parts)

    def run(self, n: int, embd: Any = None) -> None:
        job = self._job
        if embd is not None:
            width = 4 * n * self.opening.n_hidden
            job = Job(job.sequence, job.parts, ctypes.string_at(ctypes.cast(embd, ctypes.c_void_p).value or 0, width))
        self._machines.ask("run", self.number, job)
        if self.opening.beside is None:
            for sequence, part in enumerate(job.parts, job.sequence):
                self._kept.add(sequence, part.tokens, part.start)

    def run_embedded(self, n: int, inputs: Rows, *, causal: bool = True) -> None:
        raise BackendError("embeddings are decoded on this machine alone; this is an error in localspec, report it.")

    def rows(self, n: int) -> Rows:
        found = self._shared.logits[:n]
        check_finite(found, self._model.path.name)
        return found

    def hidden(self, n: int) -> Rows:
        if not self.opening.n_hidden:
            raise BackendError("this context was made without hidden rows; make it with hidden=True.")
        return self._shared.hidden[:n]

    def adapt_threads(self, adaptive: bool) -> None:
        self._adaptive = adaptive
        self._call("adapt_threads", adaptive)

    def replay(self) -> Iterator[tuple[Any, ...]]:
        """See :class:`localspec.machines.machines.Kept`."""
        yield "call", "adapt_threads", self._adaptive
        yield from self._kept.replay(self._widest if self._opener.cells_are_free else 0)

    def remove(self, sequence: int, first: int) -> bool:
        removed = bool(self._call("remove", sequence, first))
        if removed:
            self._kept.remove(sequence, first)
        return removed

    def clear(self) -> None:
        self._call("clear")
        self._kept.clear()

    def copy(self, source: int, target: int) -> None:
        self._call("copy", source, target)
        self._kept.copy(source, target)

    def state(self, sequence: int) -> bytes:
        return bytes(self._call("state", sequence))

    def set_state(self, sequence: int, state: bytes) -> int:
        read = int(self._call("set_state", sequence, state))
        if read == len(state):
            self._kept.set_state(sequence, state)
        return read

    def first_position(self, sequence: int) -> int:
        return int(self._call("first_position", sequence))

    def _call(self, name: str, *arguments: Any) -> Any:
        return self._machines.ask("call", self.number, name, *arguments)

    def close(self) -> None:
        self._machines.forget(self)
