"""Which machine holds which layers: by memory, by the speed of devices and by the links. Pure.

A pass goes through the layers in order, so its time is the sum over machines: the bytes of their layers over their
speed, and for each worker a round trip and the transfer of a row in and out. The last layers and the output stay on
this machine: a row of logits is many times as large as a row between layers, and an assistant reads their cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from localspec.errors import UsageError

#: Most workers of which every choice is tried; of more, the fastest come first.
_MOST_TRIED = 8


@dataclass(frozen=True)
class Site:
    """A device that can hold layers: free bytes, and bytes of weights that it reads in a second.

    ``round_trip_s`` and ``bandwidth``, in bytes a second, are those of the link; a local device has none. ``layers``:
    the user's choice.
    """

    name: str
    free: int
    speed: float
    round_trip_s: float = 0.0
    bandwidth: float = float("inf")
    layers: int | None = None


@dataclass(frozen=True)
class Load:
    """What is to be placed. Bytes of ``weights`` and ``caches`` layer by layer, the output last.

    ``kept``: the last of them, which stay local. ``buffers``: bytes that each site needs besides. ``row``: bytes of a
    row between two layers.
    """

    name: str
    weights: Sequence[int]
    caches: Sequence[int]
    kept: int
    buffers: int
    row: int

    def bytes(self, first: int, count: int) -> int:
        """Bytes of ``count`` layers from ``first`` on, with the buffers for them."""
        end = first + count
        return sum(self.weights[first:end]) + sum(self.caches[first:end]) + (self.buffers if count else 0)


@dataclass(frozen=True)
class Share:
    """The layers of one site. Predicted seconds of a pass of one row, on the device and on the link."""

    site: Site
    first: int
    count: int
    compute_s: float
    link_s: float


@dataclass(frozen=True)
class Plan:
    """Shares in the order of the layers, those of workers first. This machine's comes last."""

    shares: tuple[Share, ...]

    @property
    def workers(self) -> tuple[Share, ...]:
        return self.shares[:-1]

    @property
    def local(self) -> Share:
        return self.shares[-1]

    @property
    def seconds(self) -> float:
        """Predicted seconds of a pass of one row."""
        return sum(share.compute_s + share.link_s for share in self.shares)


def kept_layers(n_layers: int, shared: int, patterns: Sequence[bool], *, assistant: bool) -> int:
    """The last layers that stay local, the output among them.

    The last ``shared`` layers read the cache of the last layer of each kind before them (``patterns``: True for a
    sliding window), and so does an ``assistant``. Over a link they would read all of it with every pass.
    """
    if not assistant and shared <= 0:
        return 1
    own = max(1, n_layers - shared)
    kinds = (list(patterns) + [False] * own)[:own]
    return n_layers - min(own - 1 - kinds[::-1].index(kind) for kind in set(kinds)) + 1


def make_plan(load: Load, local: Site, workers: Sequence[Site]) -> Plan:
    """The fastest placement that fits, or the one that the user chose by numbers of layers.

    Raises :class:`UsageError` where nothing fits; the message says what is missing.
    """
    chosen = [site for site in workers if site.layers is not None]
    rest = [site for site in workers if site.layers is None]
    plans = [plan for some in _choices(rest) if (plan := _place(load, local, chosen, some)) is not None]
    if not plans:
        raise UsageError(_refusal(load, local, workers))
    return min(plans, key=lambda plan: plan.seconds)


def _choices(sites: Sequence[Site]) -> Iterator[tuple[Site, ...]]:
    """Sets of workers to try."""
    ordered = sorted(sites, key=lambda site: -site.speed)
    if len(ordered) <= _MOST_TRIED:
        for n in range(len(ordered) + 1):
            yield from combinations(ordered, n)
    else:
        yield from (tuple(ordered[:n]) for n in range(len(ordered) + 1))


def _place(load: Load, local: Site, chosen: Sequence[Site], some: Sequence[Site]) -> Plan | None:
    """A placement on this machine, the ``chosen`` workers and ``some`` others; None where it does not fit.

    The fastest sites are filled first. The kept layers come first on this machine.
    """
    movable = len(load.weights) - load.kept
    counts = {site.name: site.layers or 0 for site in chosen}
    left = movable - sum(counts.values())
    if left < 0 or load.bytes(movable, load.kept) > local.free:
        return None
    each = max([w + c for w, c in zip(load.weights[:movable], load.caches[:movable], strict=True)], default=0)
    for site in sorted([local, *some], key=lambda site: -site.speed):
        fixed = load.bytes(movable, load.kept) if site is local else load.buffers
        count = min(left, max(0, site.free - fixed) // each if each else left)
        counts[site.name], left = count, left - count
    if left or any(not counts[site.name] for site in some):
        return None
    shares, first = [], 0
    for site in [*chosen, *some]:
        if counts[site.name]:
            shares.append(_share(load, site, first, counts[site.name]))
            first += counts[site.name]
    if any(load.bytes(share.first, share.count) > share.site.free for share in shares):
        return None
    return Plan((*shares, _share(load, local, first, len(load.weights) - first)))


def _share(load: Load, site: Site, first: int, count: int) -> Share:
    compute = sum(load.weights[first : first + count]) / max(site.speed, 1.0)
    return Share(site, first, count, compute, site.round_trip_s + 2 * load.row / site.bandwidth)


def _refusal(load: Load, local: Site, workers: Sequence[Site]) -> str:
    movable = len(load.weights) - load.kept
    asked = sum(site.layers or 0 for site in workers)
    if asked > movable:
        return f"--rpc gives the workers {asked} layers of {load.name}, and at most {movable} can go to them."
    need, kept = load.bytes(0, len(load.weights)), load.bytes(movable, load.kept)
    free = ", ".join(f"{site.name} {_gib(site.free)}" for site in [local, *workers])
    if kept > local.free:
        return (
            f"the last layers of {load.name} stay here and take {_gib(kept)}, and this machine has {_gib(local.free)} "
            "to spare; close other programs, or use a smaller --ctx-size."
        )
    return (
        f"{load.name} takes {_gib(need)} with its cache and does not fit into what is free ({free}); add a worker, or "
        "use a smaller quant or a smaller --ctx-size."
    )


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
