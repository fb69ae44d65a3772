"""Which machine holds which layers: by memory, by the speed of devices and by the links. Pure.

A pass goes through the layers in order, so its time is the sum over machines: the bytes of their layers over their
speed, and for each worker a round trip and the transfer of a row in and out. The output stays on this machine, because
a row of logits is many times as large as a row between layers, and so do layers whose cache an assistant reads.
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
    """Model to be placed. Bytes of ``weights`` and ``caches`` layer by layer, the output last.

    ``kept``: the last of them, which stay local. ``buffers``: bytes that each site needs besides. ``row``: bytes of a
    row between two layers. ``local_first``: this machine has the first layers and the output, else the last ones.
    ``fetches``: times that the last worker's row is asked for.
    """

    name: str
    weights: Sequence[int]
    caches: Sequence[int]
    kept: int
    buffers: int
    row: int
    local_first: bool = False
    fetches: int = 1

    def bytes(self, layers: Sequence[int]) -> int:
        """Bytes of some layers, with the buffers for them."""
        return sum(self.weights[i] + self.caches[i] for i in layers) + (self.buffers if layers else 0)

    @property
    def kept_layers(self) -> range:
        return range(len(self.weights) - self.kept, len(self.weights))


@dataclass(frozen=True)
class Share:
    """The layers of one site. Predicted seconds of a pass of one row, on the device and on the link."""

    site: Site
    layers: Sequence[int]
    compute_s: float
    link_s: float

    @property
    def count(self) -> int:
        return len(self.layers)


@dataclass(frozen=True)
class Plan:
    """Shares of the workers in the order of the layers, then this machine's."""

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
    if left < 0 or load.bytes(load.kept_layers) > local.free:
        return None
    each = max([w + c for w, c in zip(load.weights[:movable], load.caches[:movable], strict=True)], default=0)
    for site in sorted([local, *some], key=lambda site: -site.speed):
        fixed = load.bytes(load.kept_layers) if site is local else load.buffers
        count = min(left, max(0, site.free - fixed) // each if each else left)
        counts[site.name], left = count, left - count
    if left or any(not counts[site.name] for site in some):
        return None
    used = [site for site in [*chosen, *some] if counts[site.name]]
    shares, first = [], (movable - sum(counts[site.name] for site in used)) * load.local_first
    own = [*range(first), *load.kept_layers]
    for site in used:
        fetches = load.fetches if site is used[-1] else 1
        shares.append(_share(load, site, range(first, first + counts[site.name]), fetches))
        first += counts[site.name]
    shares.append(_share(load, local, own if load.local_first else range(first, len(load.weights))))
    return Plan(tuple(shares)) if all(load.bytes(share.layers) <= share.site.free for share in shares) else None


def _share(load: Load, site: Site, layers: Sequence[int], fetches: int = 1) -> Share:
    compute = sum(load.weights[i] for i in layers) / max(site.speed, 1.0)
    return Share(site, layers, compute, fetches * site.round_trip_s + (1 + fetches) * load.row / site.bandwidth)


def _refusal(load: Load, local: Site, workers: Sequence[Site]) -> str:
    movable = len(load.weights) - load.kept
    asked = sum(site.layers or 0 for site in workers)
    if asked > movable:
        return f"--rpc gives the workers {asked} layers of {load.name}, and at most {movable} can go to them."
    need, kept = load.bytes(range(len(load.weights))), load.bytes(load.kept_layers)
    free = ", ".join(f"{site.name} {_gib(site.free)}" for site in [local, *workers])
    if kept > local.free:
        return (
            f"the output of {load.name} and the layers that go with it stay here and take {_gib(kept)}, and this "
            f"machine has {_gib(local.free)} to spare; close other programs, or use a smaller --ctx-size."
        )
    return (
        f"{load.name} takes {_gib(need)} with its cache and does not fit into what is free ({free}); add a worker, or "
        "use a smaller quant or a smaller --ctx-size."
    )


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
