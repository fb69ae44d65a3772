"""Steps of tokens → chunks of text: end tokens, stop strings, budget, channels, tool calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from localspec.chat.thinking import ThinkingParser
from localspec.chat.tool_calls import ToolCallParser
from localspec.generation.detokenize import Detokenizer
from localspec.generation.logprobs import TokenLogprobs
from localspec.generation.loop import Step
from localspec.generation.result import Chunk
from localspec.generation.stop import StopStrings
from localspec.protocols import Vocabulary
from localspec.types import Channel, FinishReason, Source


@dataclass(frozen=True)
class _Said:
    """One token and the text that became certain with it."""

    channel: Channel
    token: int
    source: Source
    piece: str
    logprobs: tuple[TokenLogprobs, ...]


class Assembler:
    """Collects one answer. ``finish_reason`` is None until it ends; whatever a step has after the end is dropped.

    ``cut`` says that a stop string ended it: then its last tokens say more than its text. Stop strings look at the
    text of the answer: not at thoughts, and not at tool calls.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        stops: Sequence[str],
        budget: int,
        thinking: ThinkingParser | None = None,
        calls: ToolCallParser | None = None,
    ) -> None:
        self._vocabulary, self._budget, self._thinking, self._calls = vocabulary, budget, thinking, calls
        self._detokenizer, self._stops = Detokenizer(vocabulary), StopStrings(stops)
        self._unspoken = _unspoken(vocabulary, calls.syntax.markers) if calls else {}
        self.tokens: list[int] = []
        self.logprobs: list[TokenLogprobs] = []
        self.finish_reason: FinishReason | None = None
        self._parts: dict[Channel, list[str]] = {"answer": [], "thought": []}
        self._channel: Channel = thinking.channel if thinking else "answer"
        self.cut = False

    @property
    def left(self) -> int:
        """Tokens that the budget still allows."""
        return self._budget - len(self.tokens)

    @property
    def text(self) -> str:
        return "".join(self._parts["answer"])

    @property
    def thought(self) -> str:
        return "".join(self._parts["thought"])

    def add(self, step: Step) -> list[Chunk]:
        """The chunks of ``step``, one for each run of tokens in one channel."""
        found: list[_Said] = []
        computed = len(step.tokens) - step.forced
        for i, token in enumerate(step.tokens):
            if self._vocabulary.is_end(token):
                self.finish_reason = "stop"
                break
            self.tokens.append(token)
            channel, piece, stopped = self._text(token)
            source: Source = "target" if step.accepted <= i < computed else "drafted"
            found.append(_Said(channel, token, source, piece, step.logprobs[i : i + 1]))
            self.logprobs.extend(found[-1].logprobs)
            if stopped:
                self.finish_reason, self.cut = "stop", True
                break
            if not self.left:
                self.finish_reason = "length"
                break
        return _chunks(found)

    def _text(self, token: int) -> tuple[Channel, str, bool]:
        channel: Channel = "answer"
        marker = self._unspoken.get(token)
        piece, stopped = self._detokenizer.add(token) if marker is None else marker, False
        if self._thinking is not None:
            channel, piece = self._thinking.add(token, piece)
        if channel == "answer":
            piece, stopped = self._stops.add(self._calls.add(piece) if self._calls else piece)
        before, self._channel = self._channel, channel
        if channel == "thought" and before == "answer":
            held, stopped = self._held_back(ended=False)
            if held:
                channel, piece = "answer", held  # the marker's own piece is empty
        self._parts[channel].append(piece)
        return channel, piece, stopped

    def _held_back(self, *, ended: bool) -> tuple[str, bool]:
        """Text that was held back as the beginning of a call or of a stop string, and whether it completed one."""
        text, stopped = self._stops.add(self._calls.flush(complete=ended)) if self._calls else ("", False)
        return text + self._stops.flush(), stopped

    def flush(self) -> Chunk:
        """The last chunk: text held back for a stop string, a call or a character that did not come."""
        piece = ""
        if not self.cut:
            piece, ended = self._detokenizer.flush(), self.finish_reason == "stop"
            if self._channel == "answer":
                said, self.cut = self._stops.add(self._calls.add(piece) if self._calls else piece)
                if not self.cut:
                    held, self.cut = self._held_back(ended=ended)
                    said += held
                piece = said
            if self.cut:
                self.finish_reason = "stop"
        if self._calls and self._calls.calls and self.finish_reason == "stop":
            self.finish_reason = "tool_calls"
        self._parts[self._channel].append(piece)
        return Chunk(piece, (), (), (), self._channel)


def _unspoken(vocabulary: Vocabulary, markers: Sequence[str]) -> dict[int, str]:
    """Tokens that are markers and have no text of their own when they are generated."""
    ids = {marker: vocabulary.tokenize(marker, add_special=False) for marker in markers}
    return {found[0]: marker for marker, found in ids.items() if len(found) == 1 and not vocabulary.piece(found[0])}


def _chunks(found: Sequence[_Said]) -> list[Chunk]:
    chunks: list[Chunk] = []
    start = 0
    for i in range(1, len(found) + 1):
        if i == len(found) or found[i].channel != found[start].channel:
            part = found[start:i]
            chunks.append(
                Chunk(
                    "".join(said.piece for said in part),
                    tuple(said.token for said in part),
                    tuple(said.source for said in part),
                    tuple(said.piece for said in part),
                    part[0].channel,
                    logprobs=tuple(one for said in part for one in said.logprobs),
                )
            )
            start = i
    return chunks
