"""Vocabularies of real models, compared from files and by llama.cpp.

Run with ``-m integration`` and LOCALSPEC_EVAL_DIR set to a folder of models.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from localspec.errors import DraftMismatchError
from localspec.gguf.header import read_header
from localspec.llama.model import LlamaModel
from localspec.loading import check_vocabularies
from localspec.models.resolve import TINY_TARGET
from localspec.models.vocabulary import vocabulary_mismatch
from localspec.params import ContextParams

pytestmark = pytest.mark.integration

FOLDER = Path(os.environ.get("LOCALSPEC_EVAL_DIR", "."))


def said_by_llama_cpp(target: LlamaModel, drafter: LlamaModel) -> str | None:
    try:
        check_vocabularies(target, drafter)
    except DraftMismatchError as error:
        return str(error)
    return None


def test_files_say_what_llama_cpp_says() -> None:
    """Of every two of the folder's models and the built-in one: the same verdict, for the same token."""
    with ExitStack() as stack:
        models = []
        for path in [TINY_TARGET, *sorted(FOLDER.glob("*.gguf"))]:
            models.append(LlamaModel(read_header(path), ContextParams()))
            stack.callback(models[-1].close)
        for target in models:
            for drafter in models:
                reason = vocabulary_mismatch(target.header, drafter.header)
                expected = said_by_llama_cpp(target, drafter)
                assert (reason is None) == (expected is None), (target.path, drafter.path)
                assert reason is None or "types" in reason or reason in str(expected)
