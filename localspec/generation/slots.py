"""Slots of a scheduler: a sequence each, its caches, and the generation that has it for now."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence

from localspec.control.base import Control, FixedDepth
from localspec.control.controller import Controller
from localspec.generation.fuse import Limits, Price, Want, pass_seconds
from localspec.generation.generation import Generation
from localspec.generation.loop import Load, Pass
from localspec.generation.pair import Pair
from localspec.generation.result import Chunk
from localspec.protocols import Rows, common_length

#: Most tokens at the end of a chat prompt that ask for the reply, and may not be in the next one.
_REPLY = 8


class Stops:
    """Counts the calls that end everything that was begun before them."""

    count = 0


class Job:
    """One generation on its way. ``deliver`` is called with its chunks; an error in place of a chunk ends them."""

    def __init__(self, generation: Generation, deliver: Callable[[Chunk | BaseException], None], stops: Stops) -> None:
        self.generation, self.deliver = generation, deliver
        self._stops, self._before = stops, stops.count
        self._cancel: threading.Event | None = generation.task.request.cancel
        self.stopped = False

    @property
    def prompt(self) -> Sequence[int]:
        return self.generation.task.tokens

    def cancelled(self) -> bool:
        """Return True once it is to end."""
        stopped = self.stopped or self._stops.count != self._before
        return stopped or (self._cancel is not None and self._cancel.is_set())

    def give_up(self) -> None:
        """Deliver the end of a generation that has not begun."""
        self.deliver(self.generation.give_up())


class Slot(Load):
    """A sequence. ``pair`` has its contexts and drafters; ``item`` is the pass that its generation waits for."""

    def __init__(self, index: int, pair: Pair) -> None:
        self.index, self.pair = index, pair
        self.job: Job | None = None
        self.item: Pass | None = None
        self.coroutine: Generator[Pass | Chunk, Rows, None] | None = None
        #: A slot that prefills what this one needs too, its job, and how many tokens of it.
        self.waits: tuple[Slot, Job, int] | None = None
        #: When it was used last, for the choice of a slot to overwrite, and the tokens of that prompt.
        self.used = self.prompted = 0
        self.neighbours: Sequence[Slot] = ()
        #: Prices of rows in the next step, by the number of sequences; the same for all of them.
        self.prices: dict[tuple[int, Limits], Price] = {}
        self._shared: Control = FixedDepth()
        self._own: Control = self._shared

    @property
    def tokens(self) -> list[int]:
        """Tokens in its cache."""
        return self.pair.target.tokens

    @property
    def prefilling(self) -> bool:
        return self.job is not None and self.job.generation.prefilling

    @property
    def decodes(self) -> int:
        """Rows that the next step of its generation needs; 0 if there is none."""
        return len(self.item.tokens) if self.item is not None and not self.prefilling else 0

    @property
    def want(self) -> Want:
        """Rows of its next pass, and what those of the draft are worth."""
        gains = self.item.gains if self.item is not None and self.decodes else ()
        return Want(self.decodes - len(gains), gains)

    def coming(self) -> tuple[int, Callable[[int], float] | None]:
        assert self.job is not None
        setup = self.job.generation.setup
        sequences = sum(slot.job is not None and not slot.prefilling for slot in self.neighbours)
        if sequences == 1 or setup.most_rows == 1:
            return 0, None
        key = sequences, Limits(setup.most_rows, setup.passes.width)
        if key not in self.prices:
            self.prices[key] = Price(sequences, len(self.neighbours), pass_seconds(setup.control), key[1])
        return sequences - 1, self.prices[key]

    def control(self, shared: Control) -> Control:
        """Return the control of this sequence, of the same kind as the engine's."""
        if shared is not self._shared:
            self._shared = shared
            self._own = shared.another() if isinstance(shared, Controller) else shared
        return self._own

    def take(self, job: Job) -> None:
        """Give the slot to a generation."""
        self.job, self.waits, self.last = job, None, 0

    def start(self) -> None:
        """Begin the generation; :attr:`coroutine` has not asked for a pass yet."""
        assert self.job is not None
        generation = self.job.generation
        generation.place(self.pair, self.control(generation.setup.control), self)
        self.coroutine = generation.run()

    def leave(self, used: int) -> None:
        """Take the slot from its generation. The cache stays."""
        self.prompted = len(self.job.prompt) if self.job else 0
        self.job = self.item = self.coroutine = self.waits = None
        self.used = used

    def continued_by(self, prompt: Sequence[int]) -> bool:
        """Return True if ``prompt`` begins with the last one of this slot, but for what asks for the reply."""
        known = min(self.prompted, len(self.tokens)) - _REPLY
        return 0 < known <= common_length(self.tokens, prompt)

    def reusable(self, prompt: Sequence[int]) -> int:
        """Return how many tokens of its cache are of use for ``prompt``."""
        return self.pair.prefill.reusable(self.tokens, prompt)
