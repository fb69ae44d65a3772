"""Laws of the placement of layers on machines."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localspec.errors import UsageError
from localspec.machines.plan import Load, Plan, Site, kept_layers, make_plan

GIB, MIB = 1 << 30, 1 << 20
LOAD = Load("model", [100 * MIB] * 20 + [300 * MIB], [10 * MIB] * 20 + [0], 1, 50 * MIB, 4096)
HERE = Site("here", 4 * GIB, 10e9)
THERE = Site("there", 4 * GIB, 10e9, 1e-3, 1e8)


def counts(plan: Plan) -> list[tuple[str, int]]:
    return [(share.site.name, share.count) for share in plan.shares]


def test_what_fits_here_stays_here() -> None:
    """A worker that is no faster only adds a link."""
    assert counts(make_plan(LOAD, HERE, [THERE])) == [("here", 21)]


def test_a_fast_worker_takes_all_it_may() -> None:
    """The output stays here: its row is the longest."""
    assert counts(make_plan(LOAD, HERE, [replace(THERE, speed=100e9)])) == [("there", 20), ("here", 1)]


def test_a_slow_link_is_not_worth_a_fast_worker() -> None:
    """A round trip that takes longer than the layers here."""
    assert counts(make_plan(LOAD, HERE, [replace(THERE, speed=100e9, round_trip_s=1.0)])) == [("here", 21)]


def test_a_small_machine_needs_a_worker() -> None:
    """It keeps as many layers as fit, where it is as fast."""
    plan = make_plan(LOAD, replace(HERE, free=GIB), [THERE])
    name, count = counts(plan)[0]
    assert name == "there"
    assert LOAD.bytes(range(count, 21)) <= GIB < LOAD.bytes(range(count - 1, 21))


def test_the_user_chooses() -> None:
    """A number of layers is obeyed although it is slower."""
    two = [replace(THERE, layers=3), replace(THERE, name="third", layers=4)]
    assert counts(make_plan(LOAD, HERE, two)) == [("there", 3), ("third", 4), ("here", 14)]
    assert counts(make_plan(LOAD, HERE, [replace(THERE, layers=0)])) == [("here", 21)]


@pytest.mark.parametrize(
    ("here", "there", "words"),
    [
        (replace(HERE, free=GIB), replace(THERE, free=GIB), "does not fit into what is free"),
        (replace(HERE, free=MIB), THERE, "the output of model"),
        (HERE, replace(THERE, layers=21), "at most 20 can go"),
        (HERE, replace(THERE, free=GIB, layers=20), "does not fit"),
    ],
)
def test_what_cannot_be_placed_is_refused(here: Site, there: Site, words: str) -> None:
    """The sentence says what is missing."""
    with pytest.raises(UsageError, match=words):
        make_plan(LOAD, here, [there])


@given(
    st.lists(st.tuples(st.integers(0, 3000), st.floats(1e8, 1e12), st.floats(0, 0.1)), max_size=10),
    st.integers(0, 3000),
    st.integers(1, 21),
    st.booleans(),
)
def test_every_layer_has_one_place_that_has_room(
    sites: list[tuple[int, float, float]], here: int, kept: int, local_first: bool
) -> None:
    """Workers come first, the kept layers stay here, and no worker without layers is connected to."""
    workers = [Site(str(i), free * MIB, speed, trip, 1e8) for i, (free, speed, trip) in enumerate(sites)]
    load = replace(LOAD, kept=kept, local_first=local_first)
    try:
        plan = make_plan(load, Site("here", here * MIB, 5e9), workers)
    except UsageError:
        return
    order = [plan.local, *plan.workers] if local_first else plan.shares
    layers = [layer for share in order for layer in share.layers]
    assert sorted(layers) == list(range(21))
    if not local_first:
        assert layers == sorted(layers)
    assert plan.local.site.name == "here"
    assert set(load.kept_layers) <= set(plan.local.layers)
    assert all(list(share.layers) == list(range(share.layers[0], share.layers[-1] + 1)) for share in plan.workers)
    assert all(share.count for share in plan.workers)
    assert all(load.bytes(share.layers) <= share.site.free for share in plan.shares)
    assert plan.seconds >= sum(load.weights) / max(site.speed for site in [plan.local.site, *workers]) * 0.999


def test_layers_that_share_a_cache_stay_with_it() -> None:
    """With an assistant, or where the last layers have none of their own: from the last cache of either kind on."""
    assert kept_layers(24, 0, [], assistant=False) == 1
    assert kept_layers(24, 0, [], assistant=True) == 2
    pattern = [True, True, True, True, False] * 6
    assert kept_layers(30, 0, pattern, assistant=True) == 3
    assert kept_layers(30, 10, pattern, assistant=False) == 10 + 3
    assert kept_layers(30, 12, pattern, assistant=True) == 12 + 5


def test_with_the_first_layers_here_only_the_output_comes_back() -> None:
    """The workers' layers are the last ones."""
    plan = make_plan(replace(LOAD, local_first=True), HERE, [replace(THERE, layers=5)])
    assert plan.local.layers == [*range(15), 20]
    assert plan.workers[0].layers == range(15, 20)
