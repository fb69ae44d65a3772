"""Laws of interrupting, closing and freeing the built-in pair."""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from localspec.engine import Engine
from tests.helpers.child import child
from tests.helpers.support import load_fixed as load

GREEDY = {"temperature": 0, "max_tokens": 24}
PROMPTS = ("Once upon a time", "The little fox was")


@pytest.fixture(scope="module", params=["none", "ngram", "auto"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """The pair with each kind of drafter."""
    with load(draft=request.param) as loaded:
        yield loaded


# Interruption.


@pytest.fixture
def _no_callbacks_of_others() -> Iterator[None]:
    """Take hypothesis's callback off the collector: Python drops an interrupt that strikes inside it."""
    others = gc.callbacks[:]
    gc.callbacks.clear()
    yield
    gc.callbacks[:] = others


@pytest.mark.usefixtures("_no_callbacks_of_others")
def test_interrupt_at_any_moment_leaves_the_engine_usable(engine: Engine) -> None:
    """A KeyboardInterrupt from a signal, wherever it strikes: the next text is right."""
    engine.forget()
    expected = engine.generate(PROMPTS[1], **GREEDY).tokens

    armed = struck = 0

    def interrupt(*_: object) -> None:
        if armed:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for k in range(25):
            try:
                armed = 1
                signal.setitimer(signal.ITIMER_REAL, 0.0005 + 0.0013 * k)
                engine.generate(PROMPTS[0] * (1 + k % 3), temperature=0, max_tokens=400)
                armed = 0
            except KeyboardInterrupt:
                armed, struck = 0, struck + 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert engine.generate(PROMPTS[1], **GREEDY).tokens == expected
        assert struck
    finally:
        signal.signal(signal.SIGALRM, before)


def test_interrupt_while_loading_ends_the_load() -> None:
    """An exception of the progress callback is raised, and nothing stays loaded."""

    def stop(fraction: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(progress=stop)


def test_interrupt_while_prefilling_leaves_the_engine_usable(engine: Engine) -> None:
    """The same through the progress of the prompt."""

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    expected = engine.generate(PROMPTS[1], **GREEDY).tokens
    with pytest.raises(KeyboardInterrupt):
        engine.generate(PROMPTS[0] * 3, progress=stop)
    assert engine.generate(PROMPTS[1], **GREEDY).tokens == expected


def test_progress_of_loading_goes_to_one() -> None:
    """From 0 up."""
    seen: list[float] = []
    load(progress=seen.append).close()
    assert seen == sorted(seen)
    assert (seen[0] < 0.5, seen[-1]) == (True, 1.0)


# Memory and closing.


def resident() -> float:
    """Resident memory in MB (where /proc is missing, the most there ever was)."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def test_memory_is_flat_over_200_loads() -> None:
    """Target, assistant and contexts are all freed: a leak of 0.1 MB a cycle would show."""

    def cycle() -> None:
        with load(draft="auto", ctx_size=128) as engine:
            engine.generate("Once", max_tokens=3, temperature=0)

    for _ in range(20):
        cycle()
    before = resident()
    for _ in range(180):
        cycle()
    assert resident() - before < 18


USES = [
    "llm.generate('x')", "list(llm.stream('x'))", "llm.chat([{'role': 'user', 'content': 'x'}])", "llm.tokenize('x')",
    "llm.prompt_tokens([{'role': 'user', 'content': 'x'}])", "llm.detokenize([300])",
]  # fmt: skip


@pytest.mark.parametrize("use", USES)
def test_use_after_close_is_refused(use: str) -> None:
    """An error in Python, not the end of the process."""
    code = f"llm.close()\ntry:\n    {use}\nexcept localspec.BackendError as error:\n    print('refused', error)"
    done = child(code)
    assert done.returncode == 0, done.stderr[-300:]
    assert done.stdout.startswith("refused")


@pytest.mark.parametrize("taken", [0, 1])
def test_stream_of_a_closed_engine_is_refused(taken: int) -> None:
    """Before its first chunk or after."""
    code = "chunks = llm.stream('Once', temperature=0)\n" + "next(chunks)\n" * taken
    code += "llm.close()\ntry:\n    list(chunks)\nexcept localspec.BackendError:\n    print('refused')"
    done = child(code)
    assert (done.returncode, done.stdout) == (0, "refused\n"), done.stderr[-300:]


@pytest.mark.parametrize(
    "end", ["", "del llm", "llm.close(); llm.close()", "next(llm.stream('Once'))", "x = llm.stream('Once'); next(x)"]
)
def test_process_ends_well_however_it_leaves_the_engine(end: str) -> None:
    """Open, dropped, closed twice, in the middle of a stream: no crash, and nothing on stderr."""
    done = child(end)
    assert (done.returncode, done.stderr) == (0, "")
