"""What a constraint knows after some tokens of an answer, and how it refuses a budget that is too small."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NoReturn

from localspec.errors import InputError, PromptTooLongError
from localspec.grammar.closing import Way
from localspec.protocols import Mask


@dataclass(frozen=True)
class Thought:
    """A chat model's thinking, in which the grammar says nothing: token that opens it → token that closes it.

    ``inside``: the prompt ends in a thought that this token closes. ``offered``: the answer may begin with one.
    """

    markers: Mapping[int, int] = field(default_factory=dict)
    inside: int | None = None
    offered: bool = False


@dataclass
class State:
    """What is known after some tokens of the answer. ``way`` is None where no end is in sight.

    ``base``: where in the answer the grammar begins (one past a thought). ``closes``: the token that ends the thought.
    ``plan``: forced tokens that follow, None before it was looked for. ``committed``: they do not fit, and the way is
    what must follow.
    """

    kind: Literal["thought", "grammar", "ended"]
    base: int
    way: Way | None
    committed: bool = False
    closes: int | None = None
    plan: Way | None = None
    mask: Mask | None = None
    ways: dict[int, Way | None] = field(default_factory=dict)


def refuse(needed: int, room: int, max_tokens: int | None) -> NoReturn:
    if max_tokens is not None and max_tokens <= room:
        raise InputError(
            f"max_tokens is {max_tokens}; the shortest structured answer that was found takes {needed} tokens. "
            f"Allow at least {needed}."
        )
    raise PromptTooLongError(
        f"the prompt leaves room for {room} tokens in the context, and the shortest structured answer that was found "
        f"takes {needed}; shorten it, or set a larger --ctx-size."
    )
