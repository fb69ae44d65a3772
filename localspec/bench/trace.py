"""Recorded generations: the text, and the guesses of every drafting model at each of its tokens.

A trace replays any choice of drafter and depth at any costs (:mod:`localspec.bench.replay`).
A lookup needs no record: it is a function of the text.
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

#: Guesses recorded at each token.
DEPTH = 12


@dataclass(frozen=True)
class Trace:
    """One answer: ``tokens`` after ``prompt``; ``guesses[name][i]`` are a model's chain before token i.

    ``sure[i]``: how likely token i was to the target. Empty where that was not recorded.
    """

    id: str
    category: str
    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    guesses: Mapping[str, Sequence[Sequence[Guess]]] = field(default_factory=dict)
    sure: Sequence[float] = ()

    def record(self) -> dict[str, Any]:
        """What JSON can say, for :meth:`of`."""
        guesses = {
            name: [[[guess.token, round(guess.confidence, 4)] for guess in chain] for chain in chains]
            for name, chains in self.guesses.items()
        }
        return {
            "id": self.id, "category": self.category, "prompt": list(self.prompt), "tokens": list(self.tokens),
            "guesses": guesses, "sure": [round(sure, 4) for sure in self.sure],
        }  # fmt: skip

    @classmethod
    def of(cls, record: Any) -> Trace:
        """What :meth:`record` gave. Raises :class:`InputError` where it is not that."""
        try:
            guesses = {
                str(name): [[Guess(int(token), float(sure)) for token, sure in chain] for chain in chains]
                for name, chains in record.get("guesses", {}).items()
            }
            prompt, tokens = (tuple(int(token) for token in record[key]) for key in ("prompt", "tokens"))
            sure = tuple(float(p) for p in record.get("sure", ()))
            trace = cls(str(record.get("id", "")), str(record.get("category", "")), prompt, tokens, guesses, sure)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"this is no trace ({error!r:.80}); make one with `localspec bench --traces FILE`."
            ) from None
        lengths = [*(len(chains) for chains in guesses.values()), *([len(sure)] if sure else [])]
        if not trace.prompt or any(length != len(trace.tokens) for length in lengths):
            raise InputError(f"the trace {trace.id!r} is cut off; make it again with `localspec bench --traces FILE`.")
        return trace


def read_traces(path: str | Path) -> list[Trace]:
    """All traces of a file, one JSON object a line. Raises :class:`InputError`."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the traces in {path}: {error}.") from None
    if not records:
        raise InputError(f"{path} holds no trace; make some with `localspec bench --traces FILE`.")
    return [Trace.of(record) for record in records]


def trace_lines(traces: Iterable[Trace]) -> Iterator[str]:
    """A line for each, for :func:`read_traces`."""
    return (json.dumps(trace.record(), separators=(",", ":")) + "\n" for trace in traces)


class Recorder:
    """Control that never drafts, and asks every model at every token what it would have."""

    def __init__(self, depth: int = DEPTH) -> None:
        self._depth = depth
        self.begin()

    def begin(self) -> None:
        self._start = 0
        self._chains: dict[str, list[list[Guess]]] = {}
        self._sure: list[float] = []

    def draft(self, prefix: Prefix, drafters: Sequence[Drafter], budget: Budget) -> Draft:
        self._start = self._start or len(prefix.tokens)
        for drafter in drafters:
            if not drafter.free:
                chains = self._chains.setdefault(drafter.name, [])
                chains.append(self._chain(drafter, prefix, chains[-1] if chains else []))
        return Draft()

    def _chain(self, drafter: Drafter, prefix: Prefix, before: list[Guess]) -> list[Guess]:
        """The guesses from here: what is left of the chain ``before``, where its first came true, and what follows."""
        known = before[1:] if before and before[0].token == prefix.tokens[-1] else []
        more = list(islice(drafter.propose(prefix, [guess.token for guess in known]), self._depth - len(known)))
        if known and not more:  # a drafter that cannot go on from a chain starts again
            return list(islice(drafter.propose(prefix), self._depth))
        return known + more

    def learn(
        self, draft: Draft, accepted: int, budget: Budget, target_s: float, confidence: LazyConfidence | None = None
    ) -> None:
        self._sure.append(confidence() if confidence is not None else 0.0)

    def trace(self, id: str, category: str, prompt: Sequence[int], tokens: Sequence[int]) -> Trace:
        """Of the answer just made. Its first token was not drafted: it comes with the prompt."""
        n = len(tokens) - 1
        chains = {name: [*found[:n], *[[]] * (n - len(found))] for name, found in self._chains.items()}
        return Trace(id, category, (*prompt, *tokens[:1]), tuple(tokens[1:]), chains, tuple(self._sure[:n]))
