"""The scheduler: many generations, one thread. It owns the slots and decides which pass comes next.

Each step decodes once for every running generation, fused where that pays, and prefills one chunk of one prompt. So a
running stream never waits longer than a chunk. A pass of several sequences has no more rows than are proved to be
those of a run alone, and the chunks of a prefill leave the cells of a run alone: load does not change an answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from localspec.generation.fuse import Group, Limits, Price, Want, best_passes, pass_seconds
from localspec.generation.kept import KeptCaches
from localspec.generation.loop import Cancelled, Pass, execute
from localspec.generation.pair import Pair
from localspec.generation.prefill import CHUNK
from localspec.generation.result import Chunk
from localspec.generation.slots import Job, Slot
from localspec.protocols import Rows, Sequences, common_length, output_rows


class Scheduler:
    """Runs the jobs that :meth:`add` takes; :meth:`step` makes some passes. One thread calls it at a time.

    ``pairs``: for each sequence its contexts and drafters, in the order of ``sequences``. ``kept``: caches of earlier
    conversations.
    """

    def __init__(self, sequences: Sequences, pairs: Sequence[Pair], kept: KeptCaches | None = None) -> None:
        self._sequences, self.kept = sequences, kept or KeptCaches()
        self.slots = [Slot(i, pair) for i, pair in enumerate(pairs)]
        self._prices: dict[tuple[int, Limits], Price] = {}
        for slot in self.slots:
            slot.neighbours, slot.prices = self.slots, self._prices
        self._waiting: deque[Job] = deque()
        #: Slots whose prompt is not decoded yet, in the order of their jobs.
        self._prefilling: list[Slot] = []
        self._steps = 0

    def add(self, job: Job) -> None:
        """Append a job to the queue."""
        self._waiting.append(job)

    @property
    def busy(self) -> bool:
        """True while there are jobs."""
        return bool(self._waiting) or self.running

    @property
    def running(self) -> bool:
        """True while a job has a slot."""
        return any(slot.job is not None for slot in self.slots)

    def step(self, *, admit: bool = True) -> None:
        """Make one step of every running generation, and prefill a chunk. Without ``admit`` no waiting job begins."""
        self._steps += 1
        self._drop_cancelled()
        while admit and self._waiting and (free := [slot for slot in self.slots if slot.job is None]):
            self._place(self._waiting.popleft(), free)
        self._decode()
        self._prefill()

    def end(self, error: BaseException | None = None) -> None:
        """Cancel all jobs. Those that wait get the ``error``, if there is one."""
        for slot in self._used():
            self._cancel(slot)
        while self._waiting:
            job = self._waiting.popleft()
            if error is None:
                job.give_up()
            else:
                job.deliver(error)

    def _used(self) -> Iterator[Slot]:
        return (slot for slot in self.slots if slot.job is not None)

    # Which job has which slot.

    def _drop_cancelled(self) -> None:
        for slot in self._used():
            if slot.job is not None and slot.job.cancelled():
                self._cancel(slot)
        for job in [job for job in self._waiting if job.cancelled()]:
            self._waiting.remove(job)
            job.give_up()

    def _cancel(self, slot: Slot) -> None:
        assert slot.job is not None
        if slot.coroutine is None:
            job = slot.job
            self._leave(slot)
            job.give_up()
        else:
            self._resume(slot, Cancelled())

    def _place(self, job: Job, free: Sequence[Slot]) -> None:
        """Give ``job`` the free slot whose cache it continues, else the one that was used least recently."""
        chunk = job.generation.setup.chunk
        for slot in self.slots if chunk is not None else ():
            slot.pair.prefill.use_chunk(chunk or 1)
        best = max(free, key=lambda slot: common_length(slot.tokens, job.prompt))
        slot = best if best.continued_by(job.prompt) else min(free, key=lambda slot: slot.used if slot.tokens else -1)
        slot.take(job)
        known = max(found.reusable(job.prompt) for found in self.slots)
        for other in self._prefilling:
            assert other.job is not None
            later = other.pair.prefill.whole(other.job.prompt, job.prompt)
            if later > known:
                known, slot.waits = later, (other, other.job, later)
        self._prefilling.append(slot)

    def _leave(self, slot: Slot) -> None:
        if slot in self._prefilling:
            self._prefilling.remove(slot)
        slot.leave(self._steps)

    # Passes.

    def _decode(self) -> None:
        """Make the passes that the running generations wait for, with drafts as long as is best for all."""
        running = [slot for slot in self.slots if slot.decodes]
        if not running:
            return
        setups = [slot.job.generation.setup for slot in running if slot.job is not None]
        wants = [slot.want if len(running) > 1 else Want(slot.decodes) for slot in self.slots]
        widths = {setup.passes.width for setup in setups}
        most = min(setup.most_rows for setup in setups) if len(widths) == 1 else 1
        self._prices.clear()
        rows, passes = best_passes(wants, pass_seconds(setups[0].control), Limits(most, min(widths)))
        for slot in running:
            assert slot.item is not None
            slot.item = slot.item.cut(rows[slot.index])
        for group in passes.groups:
            self._run(group)

    def _run(self, group: Group) -> None:
        """Make one pass and hand its rows out."""
        slots = [self.slots[i] for i in group.members]
        items = {slot.index: slot.item for slot in slots if slot.item is not None}
        try:
            if group.end - group.first == 1:
                found = [execute(slots[0].pair.target, items[group.first])]
            elif items[group.members[0]].width > 1:
                found = self._padded(group, items)
            else:
                span = [items.get(i) for i in range(group.first, group.end)]
                passes = [item and (item.tokens, item.outputs) for item in span]
                found = self._sequences.decode(group.first, group.width, passes)
        except BaseException as error:
            for slot in slots:
                self._fail(slot, error)
            return
        for slot, rows in zip(slots, found, strict=True):
            slot.last = group.rows - slot.decodes
            self._resume(slot, rows)

    def _padded(self, group: Group, items: Mapping[int, Pass]) -> list[Rows]:
        """Make a pass of fixed width, as :func:`execute` does for one sequence: all its rows are computed."""
        span = range(group.first, group.end)
        tokens = [items[i].tokens if i in items else () for i in span]
        ends = [len(self.slots[i].tokens) + len(own) for i, own in zip(span, tokens, strict=True)]
        padded = [(*own, *[own[-1] if own else 0] * (group.width - len(own))) for own in tokens]
        found = self._sequences.decode(group.first, group.width, [(own, "all") for own in padded])
        for i, end in zip(span, ends, strict=True):
            self.slots[i].pair.target.rewind(end)
        kept = [(found[i - group.first], len(items[i].tokens), items[i].outputs) for i in group.members]
        return [rows[count - output_rows(outputs, count) : count] for rows, count, outputs in kept]

    def _prefill(self) -> None:
        """Decode one chunk of a prompt: of the oldest and of the one that is ready soonest, by turns."""
        ready = [slot for slot in self._prefilling if not self._must_wait(slot)]
        if not ready:
            return
        slot = ready[0] if self._steps % 2 else min(ready, key=_left)
        slot.pair.prefill.shared = any(other.decodes for other in self.slots)
        if slot.coroutine is None:
            self._share(slot)
            slot.start()
            self._resume(slot, None)
        if slot.prefilling and slot.item is not None:
            try:
                rows = execute(slot.pair.target, slot.item)
            except BaseException as error:
                self._fail(slot, error)
                return
            self._resume(slot, rows)

    def _must_wait(self, slot: Slot) -> bool:
        """Return True while another slot is about to prefill what this one needs too."""
        if slot.waits is None or slot.coroutine is not None:
            return False
        other, job, tokens = slot.waits
        return other.job is job and other.prefilling and len(other.tokens) < tokens

    def _share(self, slot: Slot) -> None:
        """Bring the longest prefix of the prompt that any sequence or kept cache has; keep what it replaces."""
        assert slot.job is not None
        prompt, target = slot.job.prompt, slot.pair.target
        source = max(self.slots, key=lambda found: (found.reusable(prompt), found is slot))
        length = source.reusable(prompt)
        lost = len(slot.tokens) - slot.reusable(prompt)
        others = (found.tokens for found in self.slots if found is not slot)
        if lost >= CHUNK and all(common_length(tokens, slot.tokens) < len(slot.tokens) for tokens in others):
            self.kept.keep(slot.pair)
        if self.kept.restore(slot.pair, prompt, length):
            return
        if source is not slot:
            self._sequences.copy(source.index, slot.index, length)
            slot.pair.prefill.prefilled = len(target.tokens)

    def _resume(self, slot: Slot, sent: Rows | Cancelled | None) -> None:
        """Let a generation go on to its next pass or its end, and deliver its chunks."""
        job, coroutine = slot.job, slot.coroutine
        assert job is not None
        assert coroutine is not None
        slot.item = None
        try:
            item: Pass | Chunk
            if isinstance(sent, Cancelled):
                item = coroutine.throw(sent)
            else:
                item = next(coroutine) if sent is None else coroutine.send(sent)
            while not isinstance(item, Pass):
                job.deliver(item)
                if item.completion is not None:
                    self._leave(slot)
                    return
                item = next(coroutine)
        except BaseException as error:  # raised where the chunks are read
            self._fail(slot, error)
            return
        slot.item = item
        if slot in self._prefilling and not slot.prefilling:
            self._prefilling.remove(slot)

    def _fail(self, slot: Slot, error: BaseException) -> None:
        job = slot.job
        self._leave(slot)
        if job is not None:
            job.deliver(error)


def _left(slot: Slot) -> int:
    """Tokens of the prompt that are not decoded yet."""
    assert slot.job is not None
    return len(slot.job.prompt) - (len(slot.tokens) if slot.coroutine is not None else slot.reusable(slot.job.prompt))
