"""Laws of loading a pair: the two files at the same time, and the error of each."""

from __future__ import annotations

from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

import localspec
from localspec.errors import ModelFileError
from localspec.files import BUILT_IN
from localspec.gguf.header import GgufHeader
from localspec.llama.model import LlamaModel
from localspec.loading import models

TARGET, DRAFT = BUILT_IN / "tiny.gguf", BUILT_IN / "tiny-assistant.gguf"


class Meeting(LlamaModel):
    """A model whose loading waits until another one is loaded, too."""

    barrier: Barrier

    def __init__(self, header: GgufHeader, *arguments: Any, **options: Any) -> None:
        self.barrier.wait(30)
        super().__init__(header, *arguments, **options)


def test_target_and_drafter_are_loaded_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Meeting, "barrier", Barrier(2), raising=False)
    monkeypatch.setattr(models, "devices", list)  # on a GPU they are not
    monkeypatch.setattr(models, "LlamaModel", Meeting)
    with localspec.load("tiny", DRAFT, device="cpu", ctx_size=256) as engine:
        assert engine.drafters == ("ngram", "mtp")


@pytest.mark.parametrize("broken", [TARGET, DRAFT])
def test_the_error_names_the_file_that_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch, broken: Path) -> None:
    class Breaking(LlamaModel):
        def __init__(self, header: GgufHeader, *arguments: Any, **options: Any) -> None:
            if header.path == broken:
                raise ModelFileError(f"{broken} is broken.")
            super().__init__(header, *arguments, **options)

    monkeypatch.setattr(models, "LlamaModel", Breaking)
    with pytest.raises(ModelFileError, match=f"{broken.name} is broken"):
        localspec.load("tiny", DRAFT, device="cpu", ctx_size=256)


def test_errors_of_llama_cpp_are_those_of_the_thread(tmp_path: Path) -> None:
    """A file that is refused in one thread is not the reason of a failure in another."""
    from concurrent.futures import ThreadPoolExecutor

    from localspec.llama.binding import clear_errors, first_error, lib

    clear_errors()
    options = lib.llama_model_default_params()
    with ThreadPoolExecutor(1) as pool:
        missing = str(tmp_path / "none.gguf").encode()
        assert not pool.submit(lib.llama_model_load_from_file, missing, options).result()
        assert "none.gguf" in pool.submit(first_error).result()
    assert first_error() == "llama.cpp gave no reason"
