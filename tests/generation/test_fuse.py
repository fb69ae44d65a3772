"""Laws of which passes are fused: nobody is left out, the limit holds, and no other choice is cheaper."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from hypothesis import given
from hypothesis import strategies as st

from localspec.generation.fuse import Group, Limits, Price, cheapest_passes

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


@given(ROWS.filter(bool), COSTS, LIMITS, st.data())
def test_a_price_is_what_rows_add(rows: list[int], cost: Cost, limits: Limits, data: st.DataObject) -> None:
    """To the cheapest passes of all sequences."""
    index, n = data.draw(st.integers(0, len(rows) - 1)), data.draw(st.integers(0, 8))

    def total(own: int) -> float:
        return cheapest_passes([*rows[:index], own, *rows[index + 1 :]], cost, limits).seconds

    price = Price(rows, index, cost, limits)
    assert price(n) == price(n) == total(n) - total(0)
