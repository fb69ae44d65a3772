"""Laws of a draft model that is loaded after the first answer: it changes nothing but when it drafts."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import localspec
from localspec import loading
from localspec.control.base import FixedDepth
from localspec.errors import ModelFileError
from localspec.gguf.header import read_header
from localspec.loading import files, late, measuring
from localspec.models.pairing import Pairing
from localspec.models.resolve import TINY_TARGET
from localspec.probe import load_test
from localspec.probe.gaps import GapsClosedError, Gate
from tests.probe.test_load_test import without_numbers

GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 24}
PROMPT = "Once upon a time"


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A target and a draft model that nobody has seen, measured as large ones are; ``auto`` finds the second one."""
    monkeypatch.setenv("LOCALSPEC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(loading, "MEASURED_AT_ONCE", 0)
    monkeypatch.setattr(measuring, "MEASURED_AT_ONCE", 0)
    target, draft = (Path(shutil.copy(TINY_TARGET, tmp_path / f"{name}.gguf")) for name in ("target", "draft"))
    monkeypatch.setattr(files, "find_pairing", lambda _: Pairing(read_header(draft), "model"))
    return target, draft


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files that were loaded late."""
    made: list[Path] = []
    model = late.LlamaModel

    def load(header: Any, *args: Any, **options: Any) -> Any:
        made.append(header.path)
        return model(header, *args, **options)

    monkeypatch.setattr(late, "LlamaModel", load)
    return made


def drafted(engine: localspec.Engine) -> int:
    """Tokens that the draft model proposed in an answer of three steps at a time."""
    engine.control = FixedDepth(3, only="model")
    done = engine.generate(PROMPT, **GREEDY)
    assert done.tokens == plain_tokens()
    return done.stats.by_drafter["model"].proposed if "model" in done.stats.by_drafter else 0


def plain_tokens() -> list[int]:
    with localspec.load("tiny", "none", threads=1) as engine:
        return engine.generate(PROMPT, **GREEDY).tokens


@pytest.mark.parametrize("parallel", [1, 2])
def test_the_first_answer_waits_for_no_draft_model(pair: tuple[Path, Path], loaded: list[Path], parallel: int) -> None:
    """Later ones draft with it; in a later run it is there at once."""
    target, draft = pair
    with localspec.load(target, threads=1, parallel=parallel) as engine:
        assert engine.drafters == ("ngram", "model")
        assert engine.generate(PROMPT, **GREEDY).stats.unmeasured == 1
        assert engine.measure()
        assert loaded == [draft]
        assert drafted(engine) > 0
        assert engine.costs is None  # the control of this test
    with localspec.load(target, threads=1, parallel=parallel) as engine:
        assert engine.costs is not None
        assert "model" in engine.costs.drafters
        assert drafted(engine) > 0
    assert loaded == [draft]


def test_every_sequence_drafts_with_it(pair: tuple[Path, Path]) -> None:
    """Each in a context of its own."""
    with localspec.load(pair[0], threads=1, parallel=3) as engine:
        assert engine.measure()
        engine.control = FixedDepth(3, only="model")
        found: dict[int, localspec.Completion] = {}

        def call(number: int) -> None:
            found[number] = engine.generate(PROMPT, **GREEDY)

        callers = [threading.Thread(target=call, args=(number,)) for number in range(3)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
    assert [found[number].tokens for number in range(3)] == [plain_tokens()] * 3
    assert all(done.stats.by_drafter["model"].proposed > 0 for done in found.values())


@pytest.mark.parametrize("options", [{"draft": "named"}, {"exactness": "off"}, {"exactness": "require"}])
def test_it_is_loaded_at_once(pair: tuple[Path, Path], loaded: list[Path], options: dict[str, Any]) -> None:
    """Where the user has named it, whose faults are told then, and where the first answer may draft."""
    options = {**options, "draft": str(pair[1])} if "draft" in options else options
    with localspec.load(pair[0], threads=1, **options) as engine:
        engine.measure()
    assert loaded == []


def test_a_faulty_one_leaves_answers_plain(
    pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is told: as a notice, and as an error in the next run."""
    faulty = without_numbers(tmp_path)
    monkeypatch.setattr(files, "find_pairing", lambda _: Pairing(read_header(faulty), "model"))
    with localspec.load(pair[0], threads=1) as engine:
        assert engine.measure()
        assert any("nan.gguf does not draft: " in notice and "computes NaN" in notice for notice in engine.notices)
        assert drafted(engine) == 0
        assert engine.drafters == ("ngram", "model")
    with pytest.raises(ModelFileError, match="computes NaN"):
        localspec.load(pair[0], threads=1)


def test_closing_ends_its_trial(pair: tuple[Path, Path], loaded: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """At once. The next run tries it again before it answers."""
    sleeps = "import sys, time; sys.stdin.readline(); print('ready', flush=True); time.sleep(60)"
    with monkeypatch.context() as patch, localspec.load(pair[0], threads=1) as engine:
        patch.setattr(load_test, "_CHILD", sleeps)
        engine.measure(0.5)
        began = time.monotonic()
    assert time.monotonic() - began < 10
    with localspec.load(pair[0], threads=1) as engine:
        assert not load_test.Trial(*pair, "model")._cases
        assert engine.drafters == ("ngram", "model")
    assert loaded == []


def test_a_request_goes_before_the_file(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is read between requests."""
    seen: list[float] = []
    reading, going_on, model = threading.Event(), threading.Event(), late.LlamaModel

    def load(header: Any, params: Any, *, verbose: bool, progress: Any) -> Any:
        def report(share: float) -> None:
            seen.append(share)
            reading.set()
            assert going_on.wait(60)
            progress(share)

        return model(header, params, verbose=verbose, progress=report)

    monkeypatch.setattr(late, "LlamaModel", load)
    with localspec.load(pair[0], threads=1) as engine:
        engine.measure(0.0)
        assert reading.wait(60)
        stream = engine.stream(PROMPT, **GREEDY)
        next(stream)
        going_on.set()
        time.sleep(0.2)
        assert len(seen) == 1
        stream.close()
        assert engine.measure()
        assert len(seen) > 1


def test_what_is_no_pass_ends_with_the_gate() -> None:
    """Also what begins after it was closed."""
    gate, ended = Gate(), list[int]()
    gate.on_close(lambda: ended.append(1))
    gate.close()
    assert ended == [1]
    with pytest.raises(GapsClosedError):
        gate.on_close(lambda: ended.append(2))
