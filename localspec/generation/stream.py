"""Steps of the loop → chunks of text: end tokens, stop strings, token budget, channels, tool calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple

from localspec.chat.call_parts import CallPart
from localspec.chat.thinking import ThinkingParser
from localspec.chat.tool_calls import ToolCallParser
from localspec.generation.detokenize import Detokenizer
from localspec.generation.logprobs import TokenLogprobs
from localspec.generation.loop import Step
from localspec.generation.result import Chunk
from localspec.generation.stop import StopStrings
from localspec.protocols import Vocabulary
from localspec.types import Channel, FinishReason, Source


class _Piece(NamedTuple):
    """A token and the text that it completed."""

    channel: Channel
    token: int
    source: Source
    text: str
    logprobs: tuple[TokenLogprobs, ...]
    calls: tuple[CallPart, ...] = ()


class Assembler:
    """Assemble one answer of at most ``budget`` tokens.

    ``finish_reason`` is None until the answer ends; tokens of a step after the end are dropped. ``cut`` is True if a
    stop string ended it, so that its tokens hold more than its text. Stop strings are searched in the text of the
    answer, not in thoughts and tool calls. ``call_id``: number of a call → its id.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        stops: Sequence[str],
        budget: int,
        thinking: ThinkingParser | None = None,
        calls: ToolCallParser | None = None,
        call_id: Callable[[int], str] = str,
    ) -> None:
        self._call_id = call_id
        self._vocabulary, self._budget, self._thinking, self._calls = vocabulary, budget, thinking, calls
        self._detokenizer, self._stops = Detokenizer(vocabulary), StopStrings(stops)
        self._markers = _silent_markers(vocabulary, calls.syntax.markers) if calls else {}
        self.tokens: list[int] = []
        self.logprobs: list[TokenLogprobs] = []
        self.finish_reason: FinishReason | None = None
        self._parts: dict[Channel, list[str]] = {"answer": [], "thought": []}
        self._channel: Channel = thinking.channel if thinking else "answer"
        self.cut = False

    @property
    def left(self) -> int:
        """Tokens left of the budget."""
        return self._budget - len(self.tokens)

    @property
    def text(self) -> str:
        return "".join(self._parts["answer"])

    @property
    def thought(self) -> str:
        return "".join(self._parts["thought"])

    def add(self, step: Step) -> list[Chunk]:
        """Return the chunks of ``step``, one for each run of tokens in one channel."""
        found: list[_Piece] = []
        computed = len(step.tokens) - step.forced
        for i, token in enumerate(step.tokens):
            if self._vocabulary.is_end(token):
                self.finish_reason = "stop"
                break
            self.tokens.append(token)
            channel, text, stopped = self._text(token)
            source: Source = "target" if step.accepted <= i < computed else "drafted"
            found.append(_Piece(channel, token, source, text, step.logprobs[i : i + 1], self._call_parts()))
            self.logprobs.extend(found[-1].logprobs)
            if stopped:
                self.finish_reason, self.cut = "stop", True
                break
            if self._calls is not None and self._calls.full:
                self.finish_reason = "stop"
                break
            if not self.left:
                self.finish_reason = "length"
                break
        return [_chunk(channel, list(run)) for channel, run in groupby(found, lambda piece: piece.channel)]

    def _text(self, token: int) -> tuple[Channel, str, bool]:
        """Return the channel and the text that ``token`` completed, and True if it completed a stop string."""
        channel: Channel = "answer"
        marker = self._markers.get(token)
        text, stopped = self._detokenizer.add(token) if marker is None else marker, False
        if self._thinking is not None:
            channel, text = self._thinking.add(token, text)
        if channel == "answer":
            text, stopped = self._shown(text)
        before, self._channel = self._channel, channel
        if channel == "thought" and before == "answer":
            held, stopped = self._held_back(ended=False)
            if held:
                channel, text = "answer", held  # the marker itself has no text
        self._parts[channel].append(text)
        return channel, text, stopped

    def _shown(self, text: str) -> tuple[str, bool]:
        """Return what is certain of the answer after ``text``, and True if it completed a stop string."""
        return self._stops.add(self._calls.add(text) if self._calls else text)

    def _held_back(self, *, ended: bool) -> tuple[str, bool]:
        """Return text held back as the beginning of a call or stop string, and True if it completed a stop string."""
        text, stopped = self._stops.add(self._calls.flush(complete=ended)) if self._calls else ("", False)
        return text + self._stops.flush(), stopped

    def flush(self) -> Chunk:
        """Return the last chunk: the text held back for a stop string, a call or a character that did not come."""
        text = ""
        if not self.cut:
            text, ended = self._detokenizer.flush(), self.finish_reason == "stop"
            if self._channel == "answer":
                text, self.cut = self._shown(text)
                if not self.cut:
                    held, self.cut = self._held_back(ended=ended)
                    text += held
            if self.cut:
                self.finish_reason = "stop"
        if self._calls and self._calls.calls and self.finish_reason == "stop":
            self.finish_reason = "tool_calls"
        self._parts[self._channel].append(text)
        return Chunk(text, (), (), (), self._channel, calls=self._call_parts())

    def _call_parts(self) -> tuple[CallPart, ...]:
        parts = self._calls.take_parts() if self._calls else ()
        return tuple(part._replace(id=self._call_id(part.number)) for part in parts)


def _silent_markers(vocabulary: Vocabulary, markers: Sequence[str]) -> dict[int, str]:
    """Map tokens that are ``markers`` and have no text when generated to the text of the marker."""
    ids = {marker: vocabulary.tokenize(marker, add_special=False) for marker in markers}
    return {found[0]: marker for marker, found in ids.items() if len(found) == 1 and not vocabulary.piece(found[0])}


def _chunk(channel: Channel, pieces: Sequence[_Piece]) -> Chunk:
    texts = tuple(piece.text for piece in pieces)
    return Chunk(
        "".join(texts),
        tuple(piece.token for piece in pieces),
        tuple(piece.source for piece in pieces),
        texts,
        channel,
        logprobs=tuple(found for piece in pieces for found in piece.logprobs),
        calls=tuple(part for piece in pieces for part in piece.calls),
    )
