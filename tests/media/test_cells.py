"""Laws of the cells of pictures and sounds in a list of tokens."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from localspec.media.cells import has_cells, last_end, make_cells, runs, text_tokens, whole

SPANS = st.lists(
    st.one_of(
        st.lists(st.integers(0, 9), max_size=4).map(tuple),
        st.tuples(st.sampled_from("abc"), st.integers(1, 5)).map(lambda span: make_cells(*span)),
    ),
    max_size=8,
)


def test_cells_are_a_function_of_what_they_show() -> None:
    """Equal for equal keys, different for others, all of them negative, within 63 bits."""
    a, again, b = make_cells("a", 700), make_cells("a", 700), make_cells("b", 700)
    assert a == again
    assert len({*a, *b}) == 1400
    assert all(-(2**62) <= cell < 0 for cell in (*a, *b))


@given(SPANS)
def test_runs_divide_a_list(parts: list[tuple[int, ...]]) -> None:
    """Into spans and the text between them; two spans side by side stay two."""
    tokens = [token for part in parts for token in part]
    found = list(runs(tokens))
    assert [i for run in found for i in run] == list(range(len(tokens)))
    spans = [tuple(tokens[i] for i in run) for run in found if tokens[run.start] < 0]
    assert spans == [part for part in parts if has_cells(part)]
    assert text_tokens(tokens) == [token for token in tokens if token >= 0]


@given(SPANS, st.data())
def test_a_length_never_cuts_a_span(parts: list[tuple[int, ...]], data: st.DataObject) -> None:
    """It becomes the start of the span, and stays where it is elsewhere."""
    tokens = [token for part in parts for token in part]
    length = data.draw(st.integers(0, len(tokens)))
    spans = [run for run in runs(tokens) if tokens[run.start] < 0]
    cut = [run.start for run in spans if run.start < length < run.stop]
    assert whole(tokens, length) == (cut[0] if cut else length)
    ends = [run.stop for run in spans if run.stop <= length]
    assert last_end(tokens, whole(tokens, length)) == max(ends, default=0)
