"""Laws of the queue: fair between clients, bounded, and no place is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localspec.serve.problem import RequestError
from localspec.serve.turns import Turns


def order(clients: list[str], leaving: set[int], cancelled: bool = False) -> list[int]:
    """Numbers of the requests in the order in which they run; those ``leaving`` give up while they wait.

    ``cancelled``: as by a task that waited.
    """

    async def run() -> list[int]:
        turns = Turns(len(clients))
        first = turns.enter("first")
        places = [turns.enter(client) for client in clients]
        for number in leaving:
            if cancelled:
                places[number].cancel()
            turns.leave(places[number])
        turns.leave(first)
        found = []
        while running := [n for n, place in enumerate(places) if place.done() and not place.cancelled()]:
            (number,) = set(running) - set(found)
            found.append(number)
            turns.leave(places[number])
            if len(found) == len(clients) - len(leaving):
                break
        assert turns.waiting == turns.running == 0
        return found

    return asyncio.run(run())


def test_clients_take_turns() -> None:
    """One with many requests delays another by one."""
    assert order(["a", "a", "a", "b", "c", "b"], set()) == [0, 3, 4, 1, 5, 2]


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=12), st.booleans(), st.data())
def test_everyone_who_stays_has_a_turn(clients: list[str], cancelled: bool, data: st.DataObject) -> None:
    """Those of one client in order, whoever leaves."""
    leaving = data.draw(st.sets(st.integers(0, len(clients) - 1), max_size=len(clients) - 1))
    found = order(clients, leaving, cancelled)
    assert sorted(found) == sorted(set(range(len(clients))) - leaving)
    for client in set(clients):
        own = [n for n in found if clients[n] == client]
        assert own == sorted(own)


def test_a_place_that_is_cancelled_when_its_turn_comes_passes_it_on() -> None:
    """Once it is left."""

    async def check() -> None:
        turns = Turns(4)
        first, second, third = (turns.enter("a") for _ in range(3))
        second.cancel()
        turns.leave(first)
        assert not third.done()
        turns.leave(second)
        assert third.done()

    in_loop(check)


def in_loop(check: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await check()

    asyncio.run(run())


def test_a_full_queue_refuses() -> None:
    """What runs does not count."""

    async def check() -> None:
        turns = Turns(1)
        turns.enter("a")
        turns.enter("a")
        with pytest.raises(RequestError) as refused:
            turns.enter("b")
        assert refused.value.status == 503
        assert refused.value.retry_after

    in_loop(check)


def test_a_closed_queue_refuses_all() -> None:
    """What waits as well; what runs goes on."""

    async def check() -> None:
        turns = Turns(4)
        running, waiting = turns.enter("a"), turns.enter("a")
        turns.close()
        with pytest.raises(RequestError):
            await waiting
        turns.leave(waiting)
        assert turns.running == 1
        turns.leave(running)
        with pytest.raises(RequestError):
            turns.enter("b")

    in_loop(check)


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=12), st.integers(1, 4), st.data())
def test_so_many_run_at_the_same_time(clients: list[str], parallel: int, data: st.DataObject) -> None:
    """Never more, and never fewer while anybody waits."""

    async def check() -> None:
        turns = Turns(len(clients), parallel)
        places = [turns.enter(client) for client in clients]
        while running := [place for place in places if place.done()]:
            assert turns.running == len(running) == min(parallel, len(places))
            place = data.draw(st.sampled_from(running))
            places.remove(place)
            turns.leave(place)
        assert not places

    in_loop(check)


@given(st.integers(0, 5), st.integers(1, 4), st.integers(0, 6))
def test_spare_places_are_those_that_nobody_wants(asking: int, parallel: int, wanted: int) -> None:
    """As many as are free, none while somebody waits or at the end; who comes later waits for one of them at most."""

    async def check() -> None:
        turns = Turns(9, parallel)
        places = [turns.enter("a") for _ in range(asking)]
        spare = turns.spare(wanted)
        assert len(spare) == min(wanted, max(0, parallel - asking))
        assert turns.running == min(parallel, asking + len(spare))
        later = turns.enter("b")
        assert later.done() == (asking + len(spare) < parallel)
        if spare and not later.done():
            turns.leave(spare[0])
            assert later.done()
        turns.leave(spare[0] if spare else later)  # twice: nothing is lost
        for place in [*spare, *places, later]:
            turns.leave(place)
        assert turns.running == turns.waiting == 0
        turns.close()
        assert turns.spare(1) == []

    in_loop(check)
