"""What a generation did: acceptance by position and drafter, rates, and where the time went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Count:
    """Draft tokens proposed and accepted, over so many steps."""

    proposed: int = 0
    accepted: int = 0
    steps: int = 0


@dataclass
class Stats:
    """Counters of one generation (or several, see :meth:`add`). Times in seconds.

    ``target_s`` and ``draft_s`` are inside llama.cpp while generating, ``python_s`` is the rest of ``generate_s``.
    ``near_ties`` are choices too close for a batch's row, decided by a row of their own; ``forced`` tokens those that a
    grammar left no choice about. ``prefilled_tokens`` is what the prompt cost after cache reuse (``cached_tokens``).
    """

    prompt_tokens: int = 0
    cached_tokens: int = 0
    prompt_s: float = 0.0
    generated_tokens: int = 0
    generate_s: float = 0.0
    target_s: float = 0.0
    draft_s: float = 0.0
    steps: int = 0
    drafted_steps: int = 0
    near_ties: int = 0
    forced: int = 0
    by_drafter: dict[str, Count] = field(default_factory=dict)
    per_position: list[Count] = field(default_factory=list)

    def record(self, names: Sequence[str], accepted: int) -> None:
        """Count one step of the loop: the first ``accepted`` draft tokens were right; ``names`` say whose each was."""
        self.steps += 1
        for i, name in enumerate(names):
            self._count(self.by_drafter.setdefault(name, Count()), i < accepted, i == 0 or names[i - 1] != name)
            if i == len(self.per_position):
                self.per_position.append(Count())
            self._count(self.per_position[i], i < accepted, True)
        self.drafted_steps += bool(names)

    @staticmethod
    def _count(count: Count, accepted: bool, first: bool) -> None:
        count.proposed += 1
        count.accepted += accepted
        count.steps += first

    def add(self, other: Stats) -> None:
        """Sum another generation into this one."""
        for name in ("prompt_tokens", "cached_tokens", "prompt_s", "generated_tokens", "generate_s"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("target_s", "draft_s", "steps", "drafted_steps", "near_ties", "forced"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for drafter, count in other.by_drafter.items():
            _sum(self.by_drafter.setdefault(drafter, Count()), count)
        for i, count in enumerate(other.per_position):
            if i == len(self.per_position):
                self.per_position.append(Count())
            _sum(self.per_position[i], count)

    @property
    def prefilled_tokens(self) -> int:
        return self.prompt_tokens - self.cached_tokens

    @property
    def proposed(self) -> int:
        return sum(count.proposed for count in self.by_drafter.values())

    @property
    def accepted(self) -> int:
        return sum(count.accepted for count in self.by_drafter.values())

    @property
    def acceptance(self) -> float | None:
        """Accepted over proposed draft tokens; None when nothing was drafted."""
        return self.accepted / self.proposed if self.proposed else None

    @property
    def mean_accepted(self) -> float | None:
        """Draft tokens accepted in a step that drafted (the token every step adds anyway is not in it)."""
        return self.accepted / self.drafted_steps if self.drafted_steps else None

    @property
    def tokens_per_s(self) -> float:
        return self.generated_tokens / self.generate_s if self.generate_s > 0 else 0.0

    @property
    def python_s(self) -> float:
        return max(0.0, self.generate_s - self.target_s - self.draft_s)

    def timings(self) -> dict[str, float | int]:
        """The ``timings`` object of ``--json``."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "cached_tokens": self.cached_tokens,
            "prompt_s": round(self.prompt_s, 6),
            "generated_tokens": self.generated_tokens,
            "generate_s": round(self.generate_s, 6),
            "tokens_per_s": round(self.tokens_per_s, 3),
            "target_s": round(self.target_s, 6),
            "draft_s": round(self.draft_s, 6),
            "python_s": round(self.python_s, 6),
            "steps": self.steps,
            "near_ties": self.near_ties,
            "forced": self.forced,
        }

    def draft(self) -> dict[str, Any]:
        """The ``draft`` object of ``--json``."""
        return {
            "proposed": self.proposed,
            "accepted": self.accepted,
            "acceptance": self.acceptance,
            "mean_accepted": self.mean_accepted,
            "by_drafter": {name: vars(count).copy() for name, count in self.by_drafter.items()},
            "per_position": [{"proposed": c.proposed, "accepted": c.accepted} for c in self.per_position],
        }

    def summary(self) -> str:
        """One line for a person."""
        parts = [f"{self.generated_tokens} tokens, {self.tokens_per_s:.1f} tok/s"]
        if self.acceptance is None or self.mean_accepted is None:
            parts.append("nothing drafted")
        else:
            names = "+".join(self.by_drafter)
            parts.append(f"{names}: {self.mean_accepted:.1f} accepted a step, {self.acceptance:.0%} of drafts")
        return "; ".join(parts)


def _sum(into: Count, other: Count) -> None:
    into.proposed += other.proposed
    into.accepted += other.accepted
    into.steps += other.steps
