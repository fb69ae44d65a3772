"""Recorded generations: the text, and the guesses of every drafting model at each of its tokens.

A trace can be replayed with any drafter, depth and costs (:mod:`localspec.bench.replay`). N-gram lookup needs no
record, because it is a function of the text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from localspec.control.base import Budget, LazyConfidence
from localspec.draft.base import Draft, Drafter, Guess, Prefix
from localspec.errors import InputError

#: Guesses recorded at each token: deeper drafts of a model hardly ever pay.
DEPTH = 12


@dataclass(frozen=True)
class Trace:
    """One answer: ``tokens`` after ``prompt``.

    ``guesses[name][i]`` is a model's chain of guesses before token i. ``confidence[i]`` is the target's probability of
    token i; empty if it was not recorded.
    """

    id: str
    category: str
    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    guesses: Mapping[str, Sequence[Sequence[Guess]]] = field(default_factory=dict)
    confidence: Sequence[float] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return values for JSON, as :meth:`from_dict` reads them; files call the confidence ``sure``."""
        guesses = {
            name: [[[guess.token, round(guess.confidence, 4)] for guess in chain] for chain in chains]
            for name, chains in self.guesses.items()
        }
        return {
            "id": self.id, "category": self.category, "prompt": list(self.prompt), "tokens": list(self.tokens),
            "guesses": guesses, "sure": [round(confidence, 4) for confidence in self.confidence],
        }  # fmt: skip

    @classmethod
    def from_dict(cls, record: Any) -> Trace:
        """Read the values of :meth:`to_dict`. Raises :class:`InputError`."""
        try:
            guesses = {
                str(name): [[Guess(int(token), float(confidence)) for token, confidence in chain] for chain in chains]
                for name, chains in record.get("guesses", {}).items()
            }
            prompt, tokens = (tuple(int(token) for token in record[key]) for key in ("prompt", "tokens"))
            confidence = tuple(float(p) for p in record.get("sure", ()))
            id, category = str(record.get("id", "")), str(record.get("category", ""))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"this is no trace ({error!r:.80}); make one with `localspec bench --traces FILE`."
            ) from None
        lengths = [*(len(chains) for chains in guesses.values()), *([len(confidence)] if confidence else [])]
        if not prompt or any(length != len(tokens) for length in lengths):
            raise InputError(f"the trace {id!r} is cut off; make it again with `localspec bench --traces FILE`.")
        return cls(id, category, prompt, tokens, guesses, confidence)


def read_traces(path: str | Path) -> list[Trace]:
    """Read a file of traces, one JSON object a line. Raises :class:`InputError`."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the traces in {path}: {error}.") from None
    if not records:
        raise InputError(f"{path} holds no trace; make some with `localspec bench --traces FILE`.")
    return [Trace.from_dict(record) for record in records]


def trace_lines(traces: Iterable[Trace]) -> Iterator[str]:
    """Format traces as lines of JSON, as :func:`read_traces` reads them."""
    return (json.dumps(trace.to_dict(), separators=(",", ":")) + "\n" for trace in traces)


class Recorder:
    """Control that never drafts, and records every model's guesses at every token."""

    def __init__(self, depth: int = DEPTH) -> None:
        self._depth = depth
        self.begin()

    def begin(self) -> None:
        self._start = 0
        self._chains: dict[str, list[list[Guess]]] = {}
        self._confidence: list[float] = []

    def draft(self, prefix: Prefix, drafters: Sequence[Drafter], budget: Budget) -> Draft:
        self._start = self._start or len(prefix.tokens)
        for drafter in drafters:
            if not drafter.free:
                chains = self._chains.setdefault(drafter.name, [])
                chains.append(self._chain(drafter, prefix, chains[-1] if chains else []))
        return Draft()

    def _chain(self, drafter: Drafter, prefix: Prefix, before: list[Guess]) -> list[Guess]:
        """Return the guesses after ``prefix``: the rest of ``before`` if its first was right, and new ones."""
        known = before[1:] if before and before[0].token == prefix.tokens[-1] else []
        more = list(islice(drafter.propose(prefix, [guess.token for guess in known]), self._depth - len(known)))
        if known and not more:  # a drafter that cannot continue a chain starts again
            return list(islice(drafter.propose(prefix), self._depth))
        return known + more

    def learn(
        self, draft: Draft, accepted: int, budget: Budget, target_s: float, confidence: LazyConfidence | None = None
    ) -> None:
        self._confidence.append(confidence() if confidence is not None else 0.0)

    def trace(self, id: str, category: str, prompt: Sequence[int], tokens: Sequence[int]) -> Trace:
        """Return the trace of the last answer. Its first token counts as prompt: the prefill gives it undrafted."""
        n = len(tokens) - 1
        chains = {name: [*found[:n], *[[]] * (n - len(found))] for name, found in self._chains.items()}
        return Trace(id, category, (*prompt, *tokens[:1]), tuple(tokens[1:]), chains, tuple(self._confidence[:n]))
