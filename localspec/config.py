"""Settings as frozen dataclasses, checked when they are made. Knows nothing about models.

A value that is wrong raises :class:`localspec.errors.UsageError` with the value and the allowed range.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from localspec.errors import UsageError

MAX_SEED = 2**64 - 1
_HUGE = 2**31 - 1
#: Most rows one verification may have: the last token and at most ``MAX_DRAFT`` draft tokens.
MAX_VERIFY_WIDTH = 64
MAX_DRAFT = MAX_VERIFY_WIDTH - 1


def _check(name: str, value: float, low: float, high: float, hint: str = "") -> None:
    whole = isinstance(low, int)
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise UsageError(f"{name} is {value!r}; it must be a {'whole ' if whole else ''}number.")
    if not low <= value <= high or value == math.inf:  # NaN is in no range
        allowed = f"at least {low}" if value < low and high >= _HUGE else f"from {low} to {high}"
        if math.isinf(high):
            allowed = f"a finite number of at least {low}"
        shown = f"a number of {len(str(abs(value)))} digits" if abs(value) >= 10**20 and whole else value
        raise UsageError(f"{name} is {shown}; it must be {allowed}{hint}.")


@dataclass(frozen=True)
class SamplingParams:
    """How the next token is chosen. The defaults are llama.cpp's.

    ``temperature`` 0 is greedy. ``top_k`` 0, ``top_p`` 1 and ``min_p`` 0 switch that truncation off.
    ``seed`` None draws one; read it back from :attr:`Completion.seed`.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    seed: int | None = None

    def __post_init__(self) -> None:
        _check("temperature", self.temperature, 0.0, math.inf, " (0 is greedy)")
        _check("top_k", self.top_k, 0, _HUGE, " (0 switches it off)")
        _check("top_p", self.top_p, 0.0, 1.0, " (1 switches it off)")
        _check("min_p", self.min_p, 0.0, 1.0, " (0 switches it off)")
        if self.seed is not None:
            _check("seed", self.seed, 0, MAX_SEED)

    @property
    def greedy(self) -> bool:
        return self.temperature == 0

    @property
    def truncates(self) -> bool:
        """Whether any token is cut off before sampling."""
        return self.top_k > 0 or self.top_p < 1.0 or self.min_p > 0.0

    def seeded(self) -> SamplingParams:
        """The same settings with a seed: the given one, or a fresh 32-bit one."""
        return self if self.seed is not None else replace(self, seed=secrets.randbits(32))


@dataclass(frozen=True)
class StopParams:
    """When an answer ends. ``max_tokens`` None: at an end token, a stop string or a full context."""

    max_tokens: int | None = None
    stop: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.max_tokens is not None:
            _check("max_tokens", self.max_tokens, 1, _HUGE)
        if isinstance(self.stop, str) or not isinstance(self.stop, Sequence):
            raise UsageError(f"stop is {self.stop!r}; it must be a list of strings.")
        object.__setattr__(self, "stop", tuple(self.stop))
        for text in self.stop:
            if not isinstance(text, str) or not text:
                raise UsageError(f"stop holds {text!r}; a stop string must be text of at least one character.")


@dataclass(frozen=True)
class DraftParams:
    """How far to draft.

    ``max`` None leaves the most tokens a step to each drafter. A draft ends before the first token that
    the drafter gives a probability below ``p_min``.
    """

    max: int | None = None
    p_min: float = 0.6

    def __post_init__(self) -> None:
        if self.max is not None:
            _check("draft max", self.max, 0, MAX_DRAFT, " (0 drafts nothing)")
        _check("draft p_min", self.p_min, 0.0, 1.0)


@dataclass(frozen=True)
class ContextParams:
    """Size and place of a context.

    ``ctx_size`` in tokens (None: the model's own, at most 8192); ``threads`` (None: the physical cores);
    ``gpu_layers`` (None: all where llama.cpp reports a GPU, else 0); ``device`` a name that
    ``localspec devices`` lists (None: all GPUs); ``batch`` tokens prefilled at a time.
    """

    ctx_size: int | None = None
    threads: int | None = None
    gpu_layers: int | None = None
    device: str | None = None
    batch: int = 512
    verify_width: int = field(default=MAX_VERIFY_WIDTH)

    def __post_init__(self) -> None:
        if self.ctx_size is not None:
            _check("ctx_size", self.ctx_size, 1, _HUGE)
        if self.threads is not None:
            _check("threads", self.threads, 1, 512)
        if self.gpu_layers is not None:
            _check("gpu_layers", self.gpu_layers, -1, _HUGE, " (-1 is all)")
        _check("batch", self.batch, MAX_VERIFY_WIDTH, 65536)
        _check("verify_width", self.verify_width, 1, MAX_VERIFY_WIDTH)
