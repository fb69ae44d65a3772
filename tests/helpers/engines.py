"""Engines on the scripted backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from localspec.engine import Engine
from localspec.params import SamplingParams
from localspec.testing import (
    Logits,
    ScriptedDrafter,
    ScriptedVocabulary,
    chain_logits,
    scripted_engine,
)
from tests.helpers.support import plain_tokens

END = 255
N = 256
LOGITS = chain_logits(N, 0, scale=6.0)


def right(tokens: Sequence[int]) -> list[int]:
    return plain_tokens(LOGITS, tokens, SamplingParams(0.0), 8)


def engine_of(
    logits: Logits = LOGITS, script: Callable[[list[int]], Sequence[int]] | None = right, **options: Any
) -> Engine:
    drafters = [ScriptedDrafter(script)] if script else []
    options.setdefault("vocabulary", ScriptedVocabulary(N, ends=[END]))
    return scripted_engine(logits, drafters, **options)


def target_of(engine: Engine) -> Any:
    return engine._target


class Interrupting:
    """Logits that raise once, at a given call."""

    def __init__(self, at: int, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.left, self.error = at, error

    def __call__(self, tokens: tuple[int, ...]) -> Any:
        self.left -= 1
        if self.left == 0:
            raise self.error()
        return LOGITS(tokens)
