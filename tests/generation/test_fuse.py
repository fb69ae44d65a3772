"""Laws of which passes are fused: nobody is left out, the limit holds, and no other choice is cheaper."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from hypothesis import given
from hypothesis import strategies as st

from localspec.generation.fuse import Group, Limits, Price, Want, best_passes, cheapest_passes

ROWS = st.lists(st.integers(0, 5), max_size=6)
Cost = Callable[[int], float]
#: A line, and steps of four rows.
COSTS: st.SearchStrategy[Cost] = st.sampled_from(
    [
        *((lambda n, a=a, b=b: a + b * n) for a, b in ((4.0, 1.0), (0.1, 1.0), (1.0, 0.0), (20.0, 0.2))),
        lambda n: 3.0 * (n // 4) + 2.0 * (n % 4) + 1.0,
    ]
)
LIMITS = st.sampled_from([Limits(1), Limits(4), Limits(9), Limits(64), Limits(1, 4), Limits(4, 4), Limits(6, 6)])


def every_choice(rows: Sequence[int], limits: Limits, start: int = 0) -> Iterator[list[int]]:
    """Rows of the passes of all ways to cut the sequences from ``start`` on into groups and idle ones."""
    if start == len(rows):
        yield []
        return
    if not rows[start]:
        yield from every_choice(rows, limits, start + 1)
    for end in range(start + 1, len(rows) + 1):
        need = max(rows[start:end])
        if need and (width := limits.width(need, end - start)):
            for rest in every_choice(rows, limits, end):
                yield [width * (end - start), *rest]


def with_own_passes(rows: Sequence[int], limits: Limits) -> Iterator[list[int]]:
    """The same, where those that need most rows may have passes of their own."""
    for most in {n for n in rows if n} or {0}:
        wide = [n for n in rows if n > most]
        yield from ([*choice, *wide] for choice in every_choice([n if n <= most else 0 for n in rows], limits))


@given(ROWS, COSTS, LIMITS)
def test_the_cheapest_passes_that_are_allowed(rows: list[int], cost: Cost, limits: Limits) -> None:
    """Nobody is left out, and none has too few rows; a pass of several has at most, or exactly, the rows that are
    proved."""
    time, found = cheapest_passes(rows, cost, limits)
    members = [i for group in found for i in group.members]
    assert sorted(members) == [i for i, n in enumerate(rows) if n]
    assert all(group.first <= i < group.end and rows[i] <= group.width for group in found for i in group.members)
    several = [group.rows for group in found if group.end - group.first > 1]
    assert all(n <= limits.most and limits.fixed in (1, n) for n in several)
    assert abs(sum(cost(group.rows) for group in found) - time) < 1e-9
    assert abs(min(sum(map(cost, choice)) for choice in with_own_passes(rows, limits)) - time) < 1e-9


def test_idle_neighbours_fill_groups_of_rows() -> None:
    """Seven sequences in the eight rows that are cheaper; one that needs many rows is idle in the pass of the rest."""

    def seconds(n: int) -> float:
        return {1: 8.0, 4: 13.0, 8: 24.0, 16: 36.0}.get(n, 6.0 * n + 2.0)

    assert cheapest_passes([1] * 7 + [0], seconds, Limits(64)).groups == [Group(0, 8, 1, tuple(range(7)))]
    found = cheapest_passes([1, 1, 16, 1], seconds, Limits(64))
    assert sorted(found.groups) == [Group(0, 4, 1, (0, 1, 3)), Group(2, 3, 16, (2,))]


@given(st.integers(1, 6), st.integers(0, 3), st.integers(1, 8), COSTS, LIMITS)
def test_a_price_is_what_rows_take_where_all_have_as_many(
    n: int, idle: int, width: int, cost: Cost, limits: Limits
) -> None:
    """A part of the cheapest pass that so many sequences can share, idle ones included."""
    ways = [(limits.width(width, size) * size, min(size, n)) for size in range(1, n + idle + 1)]
    least = min(cost(rows) / members for rows, members in ways if rows)
    price = Price(n, n + idle, cost, limits)
    assert price(width) == price(width) == least <= cost(width)
    if limits.fixed == 1 and (n + idle) * width <= limits.most:
        assert n * least <= cheapest_passes([width] * n + [0] * idle, cost, limits).seconds + 1e-9


GAINS = st.lists(st.floats(-1.0, 3.0), max_size=4)


@st.composite
def wants(draw: st.DrawFn) -> list[Want]:
    """Sequences that wait, and those that need rows and may have a draft."""
    return [Want(need, draw(GAINS) if need else ()) for need in draw(st.lists(st.integers(0, 3), max_size=5))]


@given(wants(), COSTS, LIMITS)
def test_drafts_are_cut_to_the_length_that_is_worth_most(found: list[Want], cost: Cost, limits: Limits) -> None:
    """Nothing that is needed is cut, and no common length is better; where nobody drafts, nothing is chosen."""

    def worth(rows: Sequence[int]) -> float:
        gained = sum(sum(want.gains[: n - want.need]) for want, n in zip(found, rows, strict=True))
        return gained - cheapest_passes(rows, cost, limits).seconds

    rows, passes = best_passes(found, cost, limits)
    assert passes == cheapest_passes(rows, cost, limits)
    assert all(want.need <= n <= want.need + len(want.gains) for want, n in zip(found, rows, strict=True))
    assert all(worth(rows) >= worth([want.rows(limit) for want in found]) - 1e-9 for limit in (1, 2, 3, 4, 5, 6, 7))


def test_drafts_that_only_pay_together_are_made_together() -> None:
    """Three draft tokens of one of four sequences cost more than they gain; those of all four do not."""

    def seconds(n: int) -> float:
        return {1: 8.0, 2: 15.0, 3: 15.0, 4: 15.0, 8: 24.0, 16: 39.0}.get(n, 2.5 * n)

    one, draft = Want(1), Want(1, (3.4, 3.0, 2.7))
    assert best_passes([draft, one, one, one], seconds, Limits(64))[0] == [1] * 4
    rows, passes = best_passes([draft] * 4, seconds, Limits(64))
    assert (rows, passes.groups) == ([4] * 4, [Group(0, 4, 4, (0, 1, 2, 3))])
