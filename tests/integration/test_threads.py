"""Rows of real models with other numbers of threads: run with ``-m integration`` and LOCALSPEC_EVAL_DIR set."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from localspec.gguf.header import read_header
from localspec.llama.binding import lib
from localspec.llama.context import LlamaContext
from localspec.llama.model import LlamaModel
from localspec.params import ContextParams
from localspec.protocols import Rows

pytestmark = pytest.mark.integration

FOLDER = Path(os.environ.get("LOCALSPEC_EVAL_DIR", "."))
FILES = ("qwen2.5-coder-0.5b-instruct-q4_0.gguf", "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf")
WIDTHS = (256, 1, 1, 2, 3, 4, 5, 8, 9, 16, 256, 1, 2, 7, 256, 1, 3, 8, 13, 1, 4, 16, 32)
TOKENS = [int(token) for token in np.random.default_rng(0).integers(300, 1000, sum(WIDTHS))]


def all_rows(context: LlamaContext, threads: list[int]) -> list[Rows]:
    """Rows of passes of many widths, with these numbers of threads in turn."""
    context.rewind(0)
    rows, at = [], 0
    for i, width in enumerate(WIDTHS):
        count = threads[i % len(threads)]
        lib.llama_set_n_threads(context.handle, count, count)
        rows.append(context.decode(TOKENS[at : at + width], "all" if width <= 32 else "last").copy())
        at += width
    return rows


@pytest.mark.parametrize("name", FILES)
def test_rows_are_the_same_with_any_number_of_threads(name: str) -> None:
    """Bit for bit, to position 905, with a number of threads that stays and one that changes at every pass."""
    params = ContextParams(threads=3)
    model = LlamaModel(read_header(FOLDER / name), params)
    context = LlamaContext(model, params, 1024)
    expected = all_rows(context, [1])
    for threads in ([2], [3], [1, 2], [3, 1, 2]):
        found = all_rows(context, threads)
        assert all(np.array_equal(a, b) for a, b in zip(expected, found, strict=True))
    context.close()
    model.close()
