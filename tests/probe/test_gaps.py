"""Laws of measuring between answers: a request waits for one pass at most, and nothing is measured twice."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import localspec
from localspec.control.base import FixedDepth
from localspec.engine import Engine, ModelInfo
from localspec.errors import BackendError
from localspec.generation.pair import Pair, Setup
from localspec.generation.passes import PassShape
from localspec.gguf.header import read_header
from localspec.loading import measuring
from localspec.models.resolve import TINY_ASSISTANT, TINY_TARGET
from localspec.probe import batch_invariance, costs
from localspec.probe.gaps import Gaps, Gate
from localspec.testing import ScriptedContext, ScriptedDrafter, ScriptedVocabulary
from tests.helpers.engines import LOGITS, N, right
from tests.helpers.paths import ROOT

PROMPT = "Once upon"
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 12}
PLAIN = Setup("exact", PassShape(1), drafts=False)
DRAFTING = Setup("exact", PassShape(8), control=FixedDepth(4))


class SlowPasses:
    """A measurement of ``count`` passes; each lasts until ``let`` is released once."""

    def __init__(self, count: int = 3, error: Exception | None = None) -> None:
        self.count, self.error, self.made = count, error, 0
        self.let, self.passing = threading.Semaphore(0), threading.Event()

    def __call__(self, gate: Gate, publish: Callable[[Setup], None]) -> None:
        for _ in range(self.count):
            with gate.one_pass():
                self.passing.set()
                self.let.acquire()
                self.passing.clear()
                self.made += 1
        if self.error is not None:
            raise self.error
        publish(DRAFTING)

    def finish(self) -> None:
        self.let.release(self.count)


def engine_with(work: Callable[[Gate, Callable[[Setup], None]], None]) -> Engine:
    vocabulary = ScriptedVocabulary(N)
    info = ModelInfo("scripted", Path("scripted"), "scripted", "scripted", 0, 0, 4096, N)
    pair = Pair(ScriptedContext(LOGITS, N), vocabulary, (ScriptedDrafter(right),))
    return Engine(pair, PLAIN, Gaps(work), model=info)


def eventually(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.002)
    return False


def test_first_answer_is_plain_and_later_ones_draft() -> None:
    """With the same tokens, and a truthful word on both."""
    work = SlowPasses()
    with engine_with(work) as engine:
        first = engine.generate(PROMPT, **GREEDY)
        assert (first.stats.proposed, first.stats.unmeasured, first.exactness) == (0, 1, "exact")
        work.finish()
        assert engine.measure()
        second = engine.generate(PROMPT, **GREEDY)
        assert (second.stats.unmeasured, second.exactness) == (0, "exact")
        assert second.stats.proposed > 0
        assert second.tokens == first.tokens
        assert (engine.passes, engine.control) == (DRAFTING.passes, DRAFTING.control)


def test_a_request_waits_for_one_pass() -> None:
    """The one that runs; the next begins after the answer."""
    work = SlowPasses()
    with engine_with(work) as engine:
        engine.measure(0.0)
        assert work.passing.wait(20)
        answer = threading.Thread(target=lambda: engine.generate(PROMPT, **GREEDY))
        answer.start()
        time.sleep(0.05)
        assert answer.is_alive()  # the pass is not interrupted
        work.let.release()
        answer.join(20)
        assert not answer.is_alive()
        work.finish()
        assert engine.measure()
        assert work.made == 3


def test_no_pass_is_made_during_an_answer() -> None:
    """Also between the chunks of a stream that nobody reads."""
    work = SlowPasses()
    work.finish()
    with engine_with(work) as engine:
        stream = engine.stream(PROMPT, **GREEDY)
        next(stream)
        time.sleep(0.05)
        assert work.made == 0
        stream.close()
        assert eventually(lambda: work.made == 3)


def test_waiting_has_a_bound() -> None:
    """And what is not measured goes on."""
    work = SlowPasses()
    with engine_with(work) as engine:
        began = time.monotonic()
        assert not engine.measure(0.05)
        assert time.monotonic() - began < 5
        work.finish()
        assert engine.measure(20)


def test_closing_ends_it_after_its_pass() -> None:
    """Nothing is left running, and passes that were not begun are not made."""
    work = SlowPasses(100)
    engine = engine_with(work)
    engine.measure(0.0)
    assert work.passing.wait(20)
    threading.Timer(0.05, work.let.release).start()
    engine.close()
    assert work.made == 1
    assert not [thread for thread in threading.enumerate() if thread.name == "localspec-measure"]


def test_an_error_leaves_answers_plain() -> None:
    """A caller that waits for the measurement gets it."""
    work = SlowPasses(1, BackendError("no memory"))
    work.finish()
    with engine_with(work) as engine:
        first = engine.generate(PROMPT, **GREEDY)
        with pytest.raises(BackendError, match="no memory"):
            engine.measure()
        again = engine.generate(PROMPT, **GREEDY)
        assert (again.tokens, again.stats.unmeasured) == (first.tokens, 1)


class TwoParts:
    """A measurement of which only the first part decides on drafting."""

    def __init__(self) -> None:
        self.done: list[int] = []

    def __call__(self, gate: Gate, publish: Callable[[Setup], None]) -> None:
        with gate.one_pass():
            self.done.append(1)
        publish(DRAFTING)
        gate.decided()
        with gate.one_pass():
            self.done.append(2)


def test_what_later_turns_need_waits_for_them() -> None:
    """A program of one answer does not wait for it."""
    work = TwoParts()
    with engine_with(work) as engine:
        assert engine.measure(20, whole=False)
        assert engine.generate(PROMPT, **GREEDY).stats.proposed > 0
        time.sleep(0.05)
        assert work.done == [1]
        engine.generate(PROMPT, **GREEDY)
        assert eventually(lambda: work.done == [1, 2])


def test_a_caller_who_waits_for_all_gets_all() -> None:
    """Also behind one who does not."""
    work = TwoParts()
    with engine_with(work) as engine:
        assert engine.measure(20, whole=False)
        assert engine.measure()
        assert work.done == [1, 2]
        assert engine.measure(whole=False)


def test_closing_ends_a_measurement_that_waits() -> None:
    """And what it waited for is not begun."""
    work = TwoParts()
    with engine_with(work) as engine:
        assert engine.measure(whole=False)
    assert work.done == [1]


def test_an_error_ends_the_wait_for_a_decision() -> None:
    """With that error."""
    work = SlowPasses(1, BackendError("no memory"))
    work.finish()
    with engine_with(work) as engine, pytest.raises(BackendError, match="no memory"):
        engine.measure(20, whole=False)


def test_a_control_of_the_user_stays() -> None:
    """Whatever is measured meanwhile."""
    work = SlowPasses()
    own = FixedDepth(2)
    with engine_with(work) as engine:
        engine.control = own
        work.finish()
        engine.measure()
        assert engine.control is own
        assert len(engine.generate(PROMPT, **GREEDY).stats.per_position) == 2


# The built-in pair.


@pytest.fixture
def unseen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Nothing is remembered, and small pairs are measured as large ones are. Gives what was measured."""
    monkeypatch.setenv("LOCALSPEC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(measuring, "MEASURED_AT_ONCE", 0)
    monkeypatch.setattr(costs, "were_disturbed", lambda *_, **__: False)  # other programs may be busy
    made: list[str] = []
    compare, measure = batch_invariance._Comparison.difference, costs.measure_passes

    def compared(self: Any, width: int, *, long: bool) -> Any:
        made.append(f"{'long' if long else 'short'} {width}")
        return compare(self, width, long=long)

    def measured(*args: Any, **options: Any) -> Any:
        made.append("costs")
        return measure(*args, **options)

    monkeypatch.setattr(batch_invariance._Comparison, "difference", compared)
    monkeypatch.setattr(costs, "measure_passes", measured)
    return made


def test_a_conversation_goes_on_after_it_was_measured(unseen: list[str]) -> None:
    """With the tokens of an engine that measures nothing, and prefilling what is new."""
    messages = [{"role": "user", "content": "Hello. Tell me of the sea."}]
    with localspec.load("tiny", threads=1, exactness="off") as engine:
        engine.drafting = False
        first = engine.chat(messages, **GREEDY)
        longer = [*messages, {"role": "assistant", "content": first.text}, {"role": "user", "content": "And then?"}]
        expected = engine.chat(longer, **GREEDY)
    with localspec.load("tiny", threads=1) as engine:
        assert engine.chat(messages, **GREEDY).tokens == first.tokens
        held = list(engine._target.tokens)
        assert engine.measure()
        assert engine._target.tokens == held
        engine.control = FixedDepth(4)
        found = engine.chat(longer, **GREEDY)
    assert found.tokens == expected.tokens
    assert found.stats.proposed > 0
    assert found.stats.cached_tokens == expected.stats.cached_tokens > 0


def test_nothing_is_measured_twice(unseen: list[str], tmp_path: Path) -> None:
    """Neither in a later run, nor for a copy of the files, nor after an interruption."""
    with localspec.load("tiny", threads=1) as engine:
        assert unseen == []
        engine.measure()
    assert len(unseen) == len(set(unseen)) > 5
    before = len(unseen)
    copies = [tmp_path / path.name for path in (TINY_TARGET, TINY_ASSISTANT)]
    for path, copy in zip((TINY_TARGET, TINY_ASSISTANT), copies, strict=True):
        copy.write_bytes(path.read_bytes())
    for target, drafter in (("tiny", "auto"), (str(copies[0]), str(copies[1]))):
        with localspec.load(target, drafter, threads=1) as engine:
            assert engine.passes.widest == 32
            assert engine.measure()
    assert len(unseen) == before


def test_require_proves_before_it_answers(unseen: list[str]) -> None:
    """The first answer drafts."""
    with localspec.load("tiny", threads=1, exactness="require") as engine:
        assert len(unseen) > 5
        engine.control = FixedDepth(4)
        done = engine.generate("Once upon a time", max_tokens=20, temperature=0)
        assert (done.exactness, done.stats.unmeasured) == ("exact", 0)
        assert done.stats.proposed > 0


def test_drafting_begins_with_the_widths_that_are_proved(unseen: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that ends early leaves what it proved to the next one."""

    class Ended(Exception):  # noqa: N818
        pass

    compare = batch_invariance._Comparison.difference

    def few(self: Any, width: int, *, long: bool) -> Any:
        if width > 4:
            raise Ended
        return compare(self, width, long=long)

    with monkeypatch.context() as patch:
        patch.setattr(batch_invariance._Comparison, "difference", few)
        with localspec.load("tiny", threads=1) as engine, pytest.raises(Ended):
            engine.measure()
    with localspec.load("tiny", threads=1) as engine:
        assert (engine.exactness, engine.passes.widest) == ("exact", 4)
        plain = replace(engine._setup, drafts=False)
        engine.control = FixedDepth(8)
        done = engine.generate("Once upon a time", max_tokens=30, temperature=0)
        assert len(done.stats.per_position) == 3
        engine._setup = plain
        assert engine.generate("Once upon a time", max_tokens=30, temperature=0).tokens == done.tokens
        assert engine.measure()
        assert engine.passes.widest == 32


def test_one_answer_needs_no_word_on_reuse(unseen: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A conversation does, before the costs."""
    found = batch_invariance._reusable_chunk

    def compared(*args: Any, **options: Any) -> int:
        unseen.append("cells")
        return found(*args, **options)

    monkeypatch.setattr(batch_invariance, "_reusable_chunk", compared)
    with localspec.load("tiny", threads=1) as engine:
        assert engine.measure(60, whole=False)
        assert "costs" in unseen
        assert "cells" not in unseen
    unseen.clear()
    monkeypatch.setenv("LOCALSPEC_CACHE", str(tmp_path / "other"))
    with localspec.load("tiny", threads=1) as engine:
        assert engine.measure()
    assert unseen.index("cells") < unseen.index("costs")


def test_costs_go_on_where_a_run_ended(unseen: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """So that short gaps are enough: no width is timed again before all are."""
    widths, pass_s = list[int](), costs._pass_s

    class Ended(Exception):  # noqa: N818
        pass

    def timed(context: Any, tokens: Any, width: int) -> float:
        if len(widths) == 3:
            raise Ended
        widths.append(width)
        return pass_s(context, tokens, width)

    monkeypatch.setattr(costs, "_pass_s", timed)
    with localspec.load("tiny", threads=1, draft_max=63) as engine, pytest.raises(Ended):
        engine.measure()
    first = set(widths)
    widths.clear()
    with localspec.load("tiny", threads=1, draft_max=63) as engine, pytest.raises(Ended):
        engine.measure()
    assert len(first) == 3
    assert first.isdisjoint(widths)


def test_off_drafts_at_once() -> None:
    """Nothing has to be proved: costs are a shipped curve until they are measured."""
    with localspec.load("tiny", threads=1, exactness="off") as engine:
        engine.control = FixedDepth(4)
        assert engine.generate("Once upon a time", max_tokens=20, temperature=0).stats.proposed > 0


def test_files_of_one_layout_share_a_key() -> None:
    """A copy does, another model does not."""
    target, assistant = read_header(TINY_TARGET), read_header(TINY_ASSISTANT)
    assert target.layout == replace(target, path=Path("elsewhere.gguf")).layout
    assert target.layout != assistant.layout
    first, *others = target.tensors
    assert target.layout != replace(target, tensors=(replace(first, type=first.type + 1), *others)).layout


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.2])
def test_a_program_may_end_while_a_pair_is_measured(tmp_path: Path, seconds: float) -> None:
    """Without closing the engine, and without a crash."""
    code = (
        "import localspec\nfrom localspec.loading import measuring\nmeasuring.MEASURED_AT_ONCE = 0\n"
        "llm = localspec.load('tiny', threads=1)\nllm.generate('Once', max_tokens=2)\n"
        f"llm.measure({seconds})\nprint('end')"
    )
    environment = {**os.environ, "LOCALSPEC_CACHE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=ROOT, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")
