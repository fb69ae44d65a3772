"""The one form of every request, and the events of its answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from localspec.generation.prompt import Infill, Prepared
from localspec.generation.result import Chunk, Completion

Messages = Sequence[Mapping[str, Any]]
#: Text, token ids, a gap in a text, or messages.
Prompt = str | Sequence[int] | Infill | Messages


#: Index of an answer, its prompt and its options.
Run = tuple[int, Prepared, dict[str, Any]]


@dataclass(frozen=True)
class Ask:
    """A request: ``prompts``, each to be answered ``n`` times.

    ``options`` are keywords of the engine's verbs. ``user`` tells users of one address apart.
    """

    prompts: tuple[Prompt, ...]
    options: dict[str, Any]
    model: str | None = None
    n: int = 1
    user: str = ""

    def runs(self, prompts: Sequence[Prepared]) -> Iterator[Run]:
        """Index, prompt and options of each answer. The first one has the seed of the options, the next one the next.

        ``prompts``: this request's, prepared.
        """
        for index in range(len(prompts) * self.n):
            yield index, prompts[index // self.n], {**self.options, "seed": (self.options["seed"] + index) % 2**64}


@dataclass(frozen=True)
class Begun:
    """The engine has the request. ``model``: the name of what answers. ``prompt_tokens``: of all prompts.

    ``texts``: of the prompts that are raw.
    """

    model: str
    prompt_tokens: int
    texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Note:
    """Something to tell a person who looks at the stream: progress."""

    text: str


@dataclass(frozen=True)
class Delta:
    """A chunk of the answer ``index``."""

    index: int
    chunk: Chunk


@dataclass(frozen=True)
class Done:
    """The end of the answer ``index``. ``thought_tokens`` of it are thoughts."""

    index: int
    completion: Completion
    thought_tokens: int = 0


Event = Begun | Note | Delta | Done


@dataclass(frozen=True)
class Sent:
    """A server-sent event. ``data`` that is text goes out as it is, anything else as JSON."""

    data: Any
    name: str | None = None


class Bytes(Protocol):
    """The bytes of a token, those of control tokens too."""

    def __call__(self, token: int) -> bytes:
        """Bytes of ``token``."""


class View(Protocol):
    """The answer to one request in one interface, as events or whole."""

    def feed(self, event: Begun | Delta | Done) -> Iterable[Sent]:
        """Server-sent events that ``event`` causes."""

    def end(self) -> Iterable[Sent]:
        """Server-sent events after the last answer."""

    def ping(self) -> Sent | None:
        """An event that changes nothing, for clients that give up without one; None: a comment does."""

    def fail(self, body: dict[str, Any]) -> Iterable[Sent]:
        """Server-sent events for an error with this body."""

    def whole(self, done: Sequence[Done]) -> Any:
        """The answer without a stream."""
