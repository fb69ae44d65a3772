"""Statistics of a generation: acceptance by position and drafter, rates, and times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass
class Count:
    """Draft tokens proposed and accepted, and the steps that had any."""

    proposed: int = 0
    accepted: int = 0
    steps: int = 0

    def add(self, proposed: int, accepted: int, steps: int) -> None:
        """Add to each number."""
        self.proposed += proposed
        self.accepted += accepted
        self.steps += steps


@dataclass
class Stats:
    """Counters of one generation, or of several (see :meth:`add`). Times are in seconds.

    ``prompt_s``: prefill of the prompt. ``generate_s``: everything after it; ``target_s`` and ``draft_s`` of it were
    spent inside llama.cpp, ``python_s`` is the rest. ``cached_tokens`` of the prompt needed no prefill. ``forced``:
    tokens that a grammar allowed no alternative to. ``unmeasured``: answers that were not drafted because the pair is
    not measured yet.
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
    forced: int = 0
    unmeasured: int = 0
    by_drafter: dict[str, Count] = field(default_factory=dict)
    per_position: list[Count] = field(default_factory=list)

    def record(self, names: Sequence[str], accepted: int) -> None:
        """Count one step of the loop: its first ``accepted`` draft tokens were right; ``names`` are their drafters."""
        self.steps += 1
        for i, name in enumerate(names):
            first = i == 0 or names[i - 1] != name
            self.by_drafter.setdefault(name, Count()).add(1, i < accepted, first)
            self._position(i).add(1, i < accepted, 1)
        self.drafted_steps += bool(names)

    def add(self, other: Stats) -> None:
        """Add the counters of another generation to this one's."""
        for item in fields(self):
            if item.name not in ("by_drafter", "per_position"):
                setattr(self, item.name, getattr(self, item.name) + getattr(other, item.name))
        for drafter, count in other.by_drafter.items():
            self.by_drafter.setdefault(drafter, Count()).add(count.proposed, count.accepted, count.steps)
        for i, count in enumerate(other.per_position):
            self._position(i).add(count.proposed, count.accepted, count.steps)

    def _position(self, i: int) -> Count:
        if i == len(self.per_position):
            self.per_position.append(Count())
        return self.per_position[i]

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
        """Accepted over proposed draft tokens; None if nothing was drafted."""
        return self.accepted / self.proposed if self.proposed else None

    @property
    def mean_accepted(self) -> float | None:
        """Draft tokens accepted per step that drafted, without the recovered or bonus token; None if none drafted."""
        return self.accepted / self.drafted_steps if self.drafted_steps else None

    @property
    def tokens_per_s(self) -> float:
        return self.generated_tokens / self.generate_s if self.generate_s > 0 else 0.0

    @property
    def python_s(self) -> float:
        return max(0.0, self.generate_s - self.target_s - self.draft_s)

    def timings(self) -> dict[str, float | int]:
        """Return the ``timings`` object of ``--json``."""
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
            "forced": self.forced,
        }

    def draft(self) -> dict[str, Any]:
        """Return the ``draft`` object of ``--json``."""
        return {
            "proposed": self.proposed,
            "accepted": self.accepted,
            "acceptance": self.acceptance,
            "mean_accepted": self.mean_accepted,
            "by_drafter": {name: vars(count).copy() for name, count in self.by_drafter.items()},
            "per_position": [{"proposed": c.proposed, "accepted": c.accepted} for c in self.per_position],
        }

    def summary(self) -> str:
        """Return one line for a person."""
        parts = [f"{self.generated_tokens} tokens, {self.tokens_per_s:.1f} tok/s"]
        if self.acceptance is None or self.mean_accepted is None:
            parts.append("nothing drafted")
        else:
            names = "+".join(self.by_drafter)
            parts.append(f"{names}: {self.mean_accepted:.1f} accepted a step, {self.acceptance:.0%} of drafts")
        return "; ".join(parts)
