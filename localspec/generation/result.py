"""What a generation gives back: chunks while it runs, a completion at its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from localspec.chat.tools import ToolCall
from localspec.generation.logprobs import TokenLogprobs
from localspec.generation.stats import Stats
from localspec.types import Channel, Exactness, FinishReason, Source


@dataclass(frozen=True)
class Completion:
    """A finished answer.

    ``tokens`` are all generated ids, the end token excluded, the token that completed a stop string
    included. ``text`` is the answer (without the stop string and tool calls); ``thought`` is what a chat model wrote in
    its thinking channel. ``finish_reason`` is ``stop`` (end token or stop string), ``tool_calls`` (the same, and there
    are ``tool_calls`` in the answer) or ``length`` (budget or context full; ``notice`` then says which, when it was the
    context). ``logprobs``, where asked for, run parallel to ``tokens``.
    """

    text: str
    tokens: tuple[int, ...]
    finish_reason: FinishReason
    seed: int
    exactness: Exactness
    stats: Stats
    thought: str = ""
    notice: str | None = None
    logprobs: tuple[TokenLogprobs, ...] | None = None
    tool_calls: tuple[ToolCall, ...] = ()

    @property
    def message(self) -> dict[str, Any]:
        """The answer as a message to put into the conversation; a tool's result may follow it."""
        message: dict[str, Any] = {"role": "assistant", "content": self.text}
        if self.tool_calls:
            message["tool_calls"] = [dict(call) for call in self.tool_calls]
            if self.thought:  # until the tools have answered, templates keep it
                message["reasoning_content"] = self.thought
        return message


@dataclass(frozen=True)
class Chunk:
    """What one step of the loop added.

    ``tokens``, ``sources`` and ``pieces`` run in parallel: the id, whether the drafter proposed it, and the text
    that became certain with it (``""`` while a character or a possible stop string is incomplete). ``text`` is the
    pieces joined. ``channel`` is the same for all of a chunk. Only the last chunk has a ``completion``. ``logprobs``
    run parallel to ``tokens`` too, where asked for.
    """

    text: str
    tokens: tuple[int, ...]
    sources: tuple[Source, ...]
    pieces: tuple[str, ...]
    channel: Channel = "answer"
    completion: Completion | None = None
    logprobs: tuple[TokenLogprobs, ...] = ()
