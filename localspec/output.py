"""What a generation gives back: chunks while it runs, a completion at its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from localspec.stats import Stats

Source = Literal["drafted", "target"]
FinishReason = Literal["stop", "length"]
Channel = Literal["answer", "thought"]
Exactness = Literal["exact", "guarded", "off"]


@dataclass(frozen=True)
class Completion:
    """A finished answer.

    ``tokens`` are all generated ids, the end token excluded, the token that completed a stop string
    included. ``text`` is the answer (without the stop string); ``thought`` is what a chat model wrote in its
    thinking channel. ``finish_reason`` is ``stop`` (end token or stop string) or ``length`` (budget or context
    full; ``notice`` then says which, when it was the context).
    """

    text: str
    tokens: tuple[int, ...]
    finish_reason: FinishReason
    seed: int
    exactness: Exactness
    stats: Stats
    thought: str = ""
    notice: str | None = None


@dataclass(frozen=True)
class Chunk:
    """What one step of the loop added.

    ``tokens``, ``sources`` and ``pieces`` run in parallel: the id, whether the drafter proposed it, and the text
    that became certain with it (``""`` while a character or a possible stop string is incomplete). ``text`` is the
    pieces joined. ``channel`` is the same for all of a chunk. Only the last chunk has a ``completion``.
    """

    text: str
    tokens: tuple[int, ...]
    sources: tuple[Source, ...]
    pieces: tuple[str, ...]
    channel: Channel = "answer"
    completion: Completion | None = None
