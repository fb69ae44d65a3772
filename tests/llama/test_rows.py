"""Laws of rows: a token is chosen from numbers only."""

from __future__ import annotations

import numpy as np
import pytest

from localspec.errors import BackendError
from localspec.llama.rows import check_finite

NAN, INF = np.nan, np.inf


@pytest.mark.parametrize("row", [[NAN] * 4, [1, NAN, 2, 3], [1, 2, 3, INF], [-INF] * 4])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_row_without_a_largest_number_is_refused(row: list[float], at: int) -> None:
    """At any place among others."""
    rows = np.ones((3, 4), np.float32)
    rows[at] = row
    with pytest.raises(BackendError, match=r"^m.gguf computes NaN or infinity"):
        check_finite(rows, "m.gguf")


def test_impossible_tokens_are_no_fault() -> None:
    """A suppressed token has -inf."""
    check_finite(np.array([[-INF, 1, -INF], [0, 0, 0]], np.float32), "m.gguf")
