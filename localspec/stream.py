"""Steps of tokens → chunks of text: end tokens, stop strings, budget, channels."""

from __future__ import annotations

from collections.abc import Sequence

from localspec.backends.base import Vocabulary
from localspec.channels import Channels
from localspec.decode import Step
from localspec.detokenize import Detokenizer
from localspec.output import Channel, Chunk, FinishReason, Source
from localspec.stop import StopStrings


class Assembler:
    """Collects one answer. ``finish_reason`` is None until it ends; whatever a step has after the end is dropped.

    ``cut`` says that a stop string ended it: then its last tokens say more than its text.
    """

    def __init__(
        self, vocabulary: Vocabulary, stops: Sequence[str], budget: int, channels: Channels | None = None
    ) -> None:
        self._vocabulary, self._budget, self._channels = vocabulary, budget, channels
        self._detokenizer, self._stops = Detokenizer(vocabulary), StopStrings(stops)
        self.tokens: list[int] = []
        self.finish_reason: FinishReason | None = None
        self._parts: dict[Channel, list[str]] = {"answer": [], "thought": []}
        self._channel: Channel = channels.channel if channels else "answer"
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
        found: list[tuple[Channel, int, Source, str]] = []
        computed = len(step.tokens) - step.forced
        for i, token in enumerate(step.tokens):
            if self._vocabulary.is_end(token):
                self.finish_reason = "stop"
                break
            self.tokens.append(token)
            channel, piece, stopped = self._text(token)
            found.append(
                (
                    channel,
                    token,
                    "target" if step.accepted <= i < computed else "drafted",
                    piece,
                )
            )
            if stopped:
                self.finish_reason, self.cut = "stop", True
                break
            if not self.left:
                self.finish_reason = "length"
                break
        return _chunks(found)

    def _text(self, token: int) -> tuple[Channel, str, bool]:
        channel: Channel = "answer"
        piece, stopped = self._detokenizer.add(token), False
        if self._channels is not None:
            channel, piece = self._channels.add(token, piece)
        if channel == "answer":
            piece, stopped = self._stops.add(piece)
        before, self._channel = self._channel, channel
        if channel == "thought" and before == "answer" and (held := self._stops.flush()):
            channel, piece = "answer", held  # the marker's own piece is empty
        self._parts[channel].append(piece)
        return channel, piece, stopped

    def flush(self) -> Chunk:
        """The last chunk: text held back for a stop string or a character that did not come."""
        piece = "" if self.cut else self._detokenizer.flush()
        if self._channel == "answer":
            piece = self._stops.flush() + piece
        self._parts[self._channel].append(piece)
        return Chunk(piece, (), (), (), self._channel)


def _chunks(found: Sequence[tuple[Channel, int, Source, str]]) -> list[Chunk]:
    chunks: list[Chunk] = []
    start = 0
    for i in range(1, len(found) + 1):
        if i == len(found) or found[i][0] != found[start][0]:
            part = found[start:i]
            chunks.append(
                Chunk(
                    "".join(piece for *_, piece in part),
                    tuple(token for _, token, _, _ in part),
                    tuple(source for _, _, source, _ in part),
                    tuple(piece for *_, piece in part),
                    part[0][0],
                )
            )
            start = i
    return chunks
