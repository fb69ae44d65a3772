"""Laws of ending a pass: nothing of it stays, and the same pass made again gives the same bits."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import localspec
from localspec.gguf.header import read_header
from localspec.llama.abort import Abort, AbortedError
from localspec.llama.context import LlamaContext
from localspec.llama.model import LlamaModel
from localspec.llama.native import NativeContext
from localspec.loading import measuring
from localspec.models.resolve import TINY_TARGET
from localspec.params import ContextParams

TOKENS = [(7 * i) % 1999 + 5 for i in range(500)]


@pytest.fixture
def context() -> Iterator[LlamaContext]:
    params = ContextParams(threads=1, device="none", batch=512)
    model = LlamaModel(read_header(TINY_TARGET), params)
    made = LlamaContext(model, params, 1024)
    yield made
    made.close()
    model.close()


def test_a_pass_that_was_ended_leaves_nothing(context: LlamaContext) -> None:
    """Whether it had begun or not."""
    abort = Abort()
    abort.install(context.handle)
    held, new = TOKENS[:40], TOKENS[40:44]
    context.decode(held, "none")
    expected = context.decode(new).copy()
    state = context.state()
    for _ in range(3):
        context.rewind(len(held))
        abort.switch(on=True)
        with pytest.raises(AbortedError):
            context.decode(new)
        abort.switch(on=False)
        context.rewind(len(held))
        assert context.tokens == held
        assert np.array_equal(context.decode(new), expected)
        assert context.state() == state


def test_a_long_pass_ends_in_its_middle(context: LlamaContext) -> None:
    """From another thread, while passes are made."""
    abort = Abort()
    abort.install(context.handle)
    context.decode(TOKENS, "none")
    whole = context.decode_s
    context.rewind(0)
    timer = threading.Timer(whole / 10, lambda: abort.switch(on=True))
    timer.start()

    def passes() -> None:
        for _ in range(1000):  # one may end before the timer does
            context.rewind(0)
            context.decode(TOKENS, "none")

    with pytest.raises(AbortedError):
        passes()
    timer.join()
    assert context.tokens == []


def test_a_request_ends_the_pass_of_a_measurement(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """Which is made again behind it, with the verdict of one that nobody disturbed."""
    verdicts, ended, run = [], list[int](), NativeContext.run

    def counted(self: NativeContext, n: int, embd: Any = None) -> None:
        try:
            run(self, n, embd)
        except AbortedError:
            ended.append(n)
            raise

    monkeypatch.setattr(NativeContext, "run", counted)
    monkeypatch.setattr(measuring, "MEASURED_AT_ONCE", 0)
    for disturbed in (False, True):
        monkeypatch.setenv("LOCALSPEC_CACHE", str(tmp_path / str(disturbed)))
        with localspec.load("tiny", threads=1) as engine:
            engine.measure(0.0)
            while disturbed and not engine.measure(0.0):
                engine.generate("Once", max_tokens=1, temperature=0)
                time.sleep(0.003)
            assert engine.measure()
            verdicts.append((engine.exactness, engine.passes, engine.difference, engine._setup.chunk))
    assert verdicts[0] == verdicts[1]
    assert ended
