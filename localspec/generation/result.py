"""Results of a generation: chunks while it runs, a completion at its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from localspec.chat.call_parts import CallPart
from localspec.chat.tools import ToolCall
from localspec.generation.logprobs import TokenLogprobs
from localspec.generation.stats import Stats
from localspec.types import Channel, Exactness, FinishReason, Source


@dataclass(frozen=True)
class Completion:
    """A finished answer.

    ``tokens``: all generated ids, without the end token, with the token that completed a stop string. ``text``: the
    answer without stop string and tool calls. ``thought``: the text of a chat model's thinking channel.
    ``finish_reason``: ``stop`` (end token or stop string), ``tool_calls`` (the same, and the answer calls tools),
    ``length`` (``max_tokens`` or the context is used up; a full context adds a ``notice``) or ``cancelled`` (the tokens
    so far, perhaps none). ``logprobs`` run parallel to ``tokens``, where requested. ``continued``: the text of the
    final message that the answer continues.
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
    continued: str = ""

    @property
    def message(self) -> dict[str, Any]:
        """The answer as a message for the conversation; results of tools follow it.

        An answer that continues a message takes its place, so both texts are in it.
        """
        message: dict[str, Any] = {"role": "assistant", "content": self.continued + self.text}
        if self.tool_calls:
            message["tool_calls"] = [dict(call) for call in self.tool_calls]
            if self.thought:  # templates keep it until the tools have answered
                message["reasoning_content"] = self.thought
        return message


@dataclass(frozen=True)
class Chunk:
    """Tokens and text that one step of the loop added, all in one ``channel``.

    ``tokens``, ``sources``, ``pieces`` and, where requested, ``logprobs`` run parallel. A piece is the text that its
    token completed: ``""`` while a character or a possible stop string is incomplete. ``text`` is the pieces joined.
    Only the last chunk has a ``completion``. ``calls`` are parts of tool calls that are being written: of calls that
    markers begin, and of forced ones. Others come with the completion alone. A call that is cut off is text in the end.
    """

    text: str
    tokens: tuple[int, ...]
    sources: tuple[Source, ...]
    pieces: tuple[str, ...]
    channel: Channel = "answer"
    completion: Completion | None = None
    logprobs: tuple[TokenLogprobs, ...] = ()
    calls: tuple[CallPart, ...] = ()
