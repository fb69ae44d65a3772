"""Vocabularies of real models, compared from files and by llama.cpp.

Run with ``-m integration`` and LOCALSPEC_EVAL_DIR set to a folder of models.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from time import process_time

import pytest

from localspec.gguf.header import read_header
from localspec.llama.model import LlamaModel
from localspec.llama.vocabulary import LlamaVocabulary
from localspec.models.resolve import TINY_TARGET
from localspec.models.vocabulary import FIRST_COMPARED, MAX_SIZE_DIFFERENCE, vocabulary_mismatch
from localspec.params import ContextParams

pytestmark = pytest.mark.integration

FOLDER = Path(os.environ.get("LOCALSPEC_EVAL_DIR", "."))


def said_by_llama_cpp(target: LlamaVocabulary, drafter: LlamaVocabulary) -> str | None:
    """The reason by the rule of ``common_speculative_are_compatible``, from the vocabularies that llama.cpp loaded."""
    if target.type != drafter.type:
        return "different types"
    ends = [(one.add_bos, one.add_eos, one.bos if one.add_bos else None) for one in (target, drafter)]
    if ends[0] != ends[1]:
        return "they begin or end texts with different tokens"
    sizes = target.n_tokens, drafter.n_tokens
    if abs(sizes[0] - sizes[1]) > MAX_SIZE_DIFFERENCE:
        return f"their vocabularies have {sizes[0]} and {sizes[1]} tokens"
    for token in range(FIRST_COMPARED, min(sizes)):
        a, b = target.raw_text(token), drafter.raw_text(token)
        if a != b:
            return f"token {token} is {a!r} in one and {b!r} in the other"
    return None


def test_comparison_is_fast() -> None:
    """0.1 s of CPU time or less for every two of the folder's models."""
    headers = [read_header(path) for path in sorted(FOLDER.glob("*.gguf"))]
    for target in headers:
        for drafter in headers:
            began = process_time()
            vocabulary_mismatch(target, drafter)
            assert process_time() - began < 0.1


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
                expected = said_by_llama_cpp(target.vocabulary, drafter.vocabulary)
                assert (reason is None) == (expected is None), (target.path, drafter.path)
                assert reason is None or "types" in reason or reason in str(expected)
