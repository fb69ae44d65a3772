"""Laws of the numbers of control: those of docs/control.md are those of the code, and what some of them do."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from localspec.control import controller, costs, estimates, models, plan, prior
from localspec.draft import copying
from localspec.params import MAX_VERIFY_WIDTH
from tests.helpers import pages

_PAGE = pages.text_of("docs/control.md")
_TABLE = dict(re.findall(r"^\| `([A-Z_]+)` \| ([^|]*) \|", _PAGE, re.MULTILINE))
_TEXT = dict(re.findall(r"`([A-Z_]+)` \(([^)]*)\)", _PAGE))
_MODULES = (controller, estimates, models, plan, costs, copying)


def first_number(text: str) -> float:
    found = re.search(r"[−-]?\d+(?:\.\d+)?", text)
    assert found is not None, text
    return float(found[0].replace("−", "-")) * (1e-6 if "µs" in text else 1.0)


def in_the_code(name: str) -> float:
    values = {getattr(module, name) for module in _MODULES if hasattr(module, name)}
    assert len(values) == 1, f"{name} is {values}"
    return float(values.pop())


def test_the_page_names_the_numbers() -> None:
    """All that were tuned, each once."""
    assert set(_TABLE) | set(_TEXT) == {
        "WEIGHT", "MEMORY", "PAIR_MEMORY", "CAUTION", "BANDS", "CONFIDENCE", "AT_RISK", "EXPLORE", "UNLIKELY", "COPY",
        "WINDOW", "SETTLED", "LONGEST", "AGAIN", "FOLLOW", "OUTLIER", "PYTHON_S", "EDGE",
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted({*_TABLE, *_TEXT} - {"BANDS"}))
def test_numbers_are_those_of_the_page(name: str) -> None:
    """The table tells what each is worth; another value has to be replayed first."""
    assert in_the_code(name) == pytest.approx(first_number({**_TABLE, **_TEXT}[name]), rel=1e-12)


def test_bands_are_those_of_the_page() -> None:
    """Two edges."""
    assert tuple(float(edge) for edge in re.findall(r"\d\.\d+", _TABLE["BANDS"])) == estimates.BANDS


def test_widths_are_whole_groups_of_rows() -> None:
    """Each up to eight, then even ones, fours and eights; the next is at most half as wide again."""
    widths = costs.WIDTHS
    assert widths[:8] == tuple(range(1, 9))
    assert widths[-1] == MAX_VERIFY_WIDTH
    for before, width in pairwise(widths[7:]):
        assert before < width <= 1.5 * before
        assert width % (2 if width < 16 else 4 if width <= 24 else 8) == 0


def test_bandwidths_of_the_prior() -> None:
    """Of two cores and of a small GPU: only the first pass relies on them."""
    assert (prior._CPU_BANDWIDTH, prior._GPU_BANDWIDTH) == (20e9, 300e9)
