"""Laws of which passes are fused: nobody is left out, the limit holds, and no other choice is cheaper."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hypothesis import given
from hypothesis import strategies as st

from localspec.generation.fuse import Group, Price, cheapest_passes

ROWS = st.lists(st.integers(0, 5), max_size=6)
COSTS = st.sampled_from([(4.0, 1.0), (0.1, 1.0), (1.0, 0.0), (20.0, 0.2)])


def every_choice(rows: Sequence[int], start: int = 0) -> Iterator[list[Group]]:
    """All ways to cut the sequences from ``start`` on into groups and idle ones."""
    if start == len(rows):
        yield []
        return
    if not rows[start]:
        yield from every_choice(rows, start + 1)
    for end in range(start + 1, len(rows) + 1):
        if width := max(rows[start:end]):
            for rest in every_choice(rows, end):
                yield [Group(start, end, width), *rest]


@given(ROWS, COSTS, st.sampled_from([1, 4, 9, 64]))
def test_the_cheapest_passes_that_are_allowed(rows: list[int], cost: tuple[float, float], most: int) -> None:
    def seconds(n: int) -> float:
        return cost[0] + cost[1] * n

    time, found = cheapest_passes(rows, seconds, most)
    members = [i for group in found for i in range(group.first, group.end)]
    assert sorted(members) == members == sorted(set(members))
    assert {i for i, n in enumerate(rows) if n} <= set(members)
    assert all(group.rows <= most or group.end - group.first == 1 for group in found)
    assert all(rows[i] <= group.width for group in found for i in range(group.first, group.end))
    allowed = [
        choice
        for choice in every_choice(rows)
        if all(group.rows <= most or group.end - group.first == 1 for group in choice)
    ]
    best = min(sum(seconds(group.rows) for group in choice) for choice in allowed)
    assert abs(sum(seconds(group.rows) for group in found) - best) < 1e-9
    assert abs(time - best) < 1e-9


@given(ROWS.filter(bool), COSTS, st.sampled_from([1, 9, 64]), st.data())
def test_a_price_is_what_rows_add(rows: list[int], cost: tuple[float, float], most: int, data: st.DataObject) -> None:
    """To the cheapest passes of all sequences."""
    index, n = data.draw(st.integers(0, len(rows) - 1)), data.draw(st.integers(0, 8))

    def total(own: int) -> float:
        return cheapest_passes([*rows[:index], own, *rows[index + 1 :]], lambda n: cost[0] + cost[1] * n, most).seconds

    price = Price(rows, index, lambda n: cost[0] + cost[1] * n, most)
    assert price(n) == price(n) == total(n) - total(0)
