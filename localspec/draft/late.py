"""A drafter that is loaded after the first answer. It has no guess before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from localspec.draft.base import Drafter, Guess, Prefix


class LateDrafter:
    """Stands for the drafter of a draft model until :meth:`arrive`, then drafts with it."""

    name, free = "model", False

    def __init__(self) -> None:
        self._drafter: Drafter | None = None

    def arrive(self, drafter: Drafter) -> None:
        """Draft with ``drafter`` from the next step on, in whatever thread that is."""
        self._drafter = drafter

    @property
    def decode_s(self) -> float:
        return self._drafter.decode_s if self._drafter else 0.0

    def propose(self, prefix: Prefix, ahead: Sequence[int] = ()) -> Iterator[Guess]:
        return self._drafter.propose(prefix, ahead) if self._drafter else iter(())

    def lag(self, prefix: Prefix, ahead: Sequence[int] = ()) -> int:
        return self._drafter.lag(prefix, ahead) if self._drafter else 0

    def observe(self, prefix: Prefix) -> None:
        if self._drafter is not None:
            self._drafter.observe(prefix)

    def close(self) -> None:
        """Close the drafter, if it has arrived."""
        if self._drafter is not None:
            self._drafter.close()
