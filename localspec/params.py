"""Settings as frozen dataclasses, checked when made. Independent of models.

A wrong value raises :class:`localspec.errors.UsageError` with the value and the allowed range.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from localspec.errors import UsageError

#: Treatment of drafting that could change the output: see :func:`localspec.load`.
ExactnessMode = Literal["require", "prefer", "off"]
#: Largest seed: the noise hash takes 64 bits.
MAX_SEED = 2**64 - 1
#: Largest whole number: llama.cpp's int32.
_HUGE = 2**31 - 1
#: Most rows of a verification pass, in tokens: the last token and the draft.
MAX_VERIFY_WIDTH = 64
#: Most draft tokens of a step.
MAX_DRAFT = MAX_VERIFY_WIDTH - 1
#: Widest batch that the exactness probe covers by default, in rows. Drafts and forced runs stay within it.
PROBE_WIDTH = 32
#: Tokens of a context that is made for measuring: enough for the long cache of the probes.
PROBE_CTX = 704
#: Widths of passes that may be fixed, in rows.
FIXED_WIDTHS = (2, 3, 4, 6, 8, 12, 16)
#: Draft tokens that a recurrent state takes back at once, where the user's width of passes does not ask for more.
ROLLBACK = 4
#: Most conversations at the same time: a pass has a row of each.
MAX_PARALLEL = 64
#: Tokens of a prefill pass on a CPU: 2% faster than 512 for prompts of 700 to 1,500 tokens.
_CPU_PASS = 256
#: Most tokens of a picture that a user may ask for.
_MOST_IMAGE_TOKENS = 16384
#: Types of a cache's keys and values, as llama.cpp names them.
CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")
#: llama.cpp's sequence breakers for DRY.
DRY_BREAKERS = ("\n", ":", '"', "*")
#: Largest bias or penalty: beyond any logit, and finite in float32 after any number of additions.
_FAR = 1e6
#: Field → lowest value, highest value, addition to a message.
SAMPLING_RANGES: dict[str, tuple[float, float, str]] = {
    "temperature": (0.0, math.inf, " (0 is greedy)"),
    "top_k": (0, _HUGE, " (0 switches it off)"),
    "top_p": (0.0, 1.0, " (1 switches it off)"),
    "min_p": (0.0, 1.0, " (0 switches it off)"),
    "typical_p": (0.0, 1.0, " (1 switches it off)"),
    "top_n_sigma": (-1.0, _FAR, " (0 or less switches it off)"),
    "xtc_probability": (0.0, 1.0, " (0 switches it off)"),
    "xtc_threshold": (0.0, 1.0, " (more than 0.5 switches it off)"),
    "dynatemp_range": (0.0, _FAR, " (0 switches it off)"),
    "dynatemp_exponent": (0.0, _FAR, ""),
    "repeat_penalty": (1e-3, 1e3, " (1 switches it off)"),
    "repeat_last_n": (0, _HUGE, " (0 switches it off)"),
    "presence_penalty": (-_FAR, _FAR, " (0 switches it off)"),
    "frequency_penalty": (-_FAR, _FAR, " (0 switches it off)"),
    "dry_multiplier": (0.0, _FAR, " (0 switches it off)"),
    "dry_base": (1.0, _FAR, ""),
    "dry_allowed_length": (0, _HUGE, ""),
    "dry_penalty_last_n": (0, _HUGE, " (0 switches it off)"),
}


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options without those that are None, which means their defaults. Numbers of numpy become Python's own."""
    return {name: own_number(value) for name, value in options.items() if value is not None}


def own_number(value: Any) -> Any:
    """Python's int, float or bool for a scalar of numpy or an array without dimensions; other values as they are."""
    item = getattr(value, "item", None)
    return item() if callable(item) and getattr(value, "ndim", None) == 0 else value


def _own_numbers(params: Any) -> None:
    """Make the numbers in the fields of frozen ``params`` Python's own."""
    for item in fields(params):
        value = getattr(params, item.name)
        if (own := own_number(value)) is not value:
            object.__setattr__(params, item.name, own)


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
    """Sampling settings: names, order and defaults of llama.cpp (``common_params_sampling``).

    The chain: ``logit_bias``, repetition penalties, DRY, then top-n-sigma, top-k, typical-p, top-p, min-p, XTC and the
    temperature. Penalties count tokens of the prompt and of the answer. ``seed`` None draws one, which
    :attr:`Completion.seed` returns.
    """

    temperature: float = 0.8
    """0 is greedy: the most likely token left by truncation."""
    top_k: int = 40
    """Off: 0."""
    top_p: float = 0.95
    """Off: 1."""
    min_p: float = 0.05
    """Off: 0."""
    seed: int | None = None
    typical_p: float = 1.0
    """Off: 1."""
    top_n_sigma: float = -1.0
    """Off: 0 or less."""
    xtc_probability: float = 0.0
    """Off: 0."""
    xtc_threshold: float = 0.1
    """Off: more than 0.5."""
    dynatemp_range: float = 0.0
    """Range of the temperature below and above its value, by the entropy left by truncation. Off: 0."""
    dynatemp_exponent: float = 1.0
    repeat_penalty: float = 1.0
    """Off: 1."""
    repeat_last_n: int = 64
    """Tokens back that repeat, presence and frequency penalties count. Off: 0."""
    presence_penalty: float = 0.0
    """Off: 0."""
    frequency_penalty: float = 0.0
    """Off: 0."""
    dry_multiplier: float = 0.0
    """Off: 0."""
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = 64
    """Tokens back that DRY searches. Off: 0."""
    dry_sequence_breakers: Sequence[str] = DRY_BREAKERS
    """Texts that end a repetition."""
    logit_bias: Mapping[int, float] | Sequence[tuple[int, float]] = ()
    """Token id → number added to its logit; −inf or False forbids the token. Stored as pairs in the order of ids."""
    mirostat: int = 0
    """Must be 0."""

    def __post_init__(self) -> None:
        _own_numbers(self)
        for name, (low, high, hint) in SAMPLING_RANGES.items():
            _check(name, getattr(self, name), low, high, hint)
        if self.seed is not None:
            _check("seed", self.seed, 0, MAX_SEED)
        if self.mirostat != 0 or isinstance(self.mirostat, bool):
            raise UsageError(
                f"mirostat is {self.mirostat!r}; only 0 (off) is possible: its threshold follows the surprise of every "
                "earlier token, so a token would no longer be a function of its logits and the text. "
                "Use top_n_sigma, typical_p or min_p instead."
            )
        object.__setattr__(self, "dry_sequence_breakers", _breakers(self.dry_sequence_breakers))
        object.__setattr__(self, "logit_bias", _biases(self.logit_bias))

    @property
    def biases(self) -> tuple[tuple[int, float], ...]:
        """Pairs of ``logit_bias``, in the order of ids."""
        return _biases(self.logit_bias)

    @property
    def greedy(self) -> bool:
        """True if the token is always the one with the largest logit."""
        return self.temperature == 0 and self.dynatemp_range == 0 and self.keeps_the_likeliest

    @property
    def keeps_the_likeliest(self) -> bool:
        """True if truncation never removes the token with the largest logit."""
        return self.typical_p >= 1.0 and not self.excludes

    @property
    def excludes(self) -> bool:
        """True if XTC may exclude the most likely tokens."""
        return self.xtc_probability > 0.0 and self.xtc_threshold <= 0.5

    @property
    def truncates(self) -> bool:
        """True if truncation may remove any token."""
        cuts = self.top_k > 0 or self.top_p < 1.0 or self.min_p > 0.0 or self.top_n_sigma > 0.0
        return cuts or not self.keeps_the_likeliest

    @property
    def penalises(self) -> bool:
        """True if repeat, presence or frequency penalties change any logit."""
        changed = self.repeat_penalty != 1.0 or self.presence_penalty != 0.0 or self.frequency_penalty != 0.0
        return self.repeat_last_n > 0 and changed

    @property
    def dries(self) -> bool:
        """True if DRY changes any logit."""
        return self.dry_multiplier > 0.0 and self.dry_penalty_last_n > 0

    def seeded(self) -> SamplingParams:
        """Return the same settings with a seed; draw 32 bits if there is none."""
        return self if self.seed is not None else replace(self, seed=secrets.randbits(32))


def _breakers(texts: Sequence[str]) -> tuple[str, ...]:
    if isinstance(texts, str) or not isinstance(texts, Sequence):
        raise UsageError(f"dry_sequence_breakers is {texts!r}; it must be a list of strings.")
    for text in texts:
        if not isinstance(text, str) or not text:
            raise UsageError(f"dry_sequence_breakers holds {text!r}; a breaker must be text of at least one character.")
        if any("\ud800" <= char <= "\udfff" for char in text):
            raise UsageError(f"dry_sequence_breakers holds {text!r}; it must be valid Unicode.")
    return tuple(texts)


def _biases(biases: Mapping[int, float] | Sequence[tuple[int, float]]) -> tuple[tuple[int, float], ...]:
    shape = "it must map token ids to numbers, such as {15043: -1.5}"
    if not isinstance(biases, (Mapping, Sequence)) or isinstance(biases, (str, bytes)):
        raise UsageError(f"logit_bias is {biases!r}; {shape}.")
    pairs = list(biases.items()) if isinstance(biases, Mapping) else list(biases)
    for pair in pairs:
        if isinstance(pair, (str, bytes)) or not isinstance(pair, Sequence) or len(pair) != 2:
            raise UsageError(f"logit_bias holds {pair!r}; {shape}.")
    pairs = [(own_number(pair[0]), own_number(pair[1])) for pair in pairs]
    for pair in pairs:
        _check("a token of logit_bias", pair[0], 0, _HUGE)
        if pair[1] is not False and pair[1] != -math.inf:
            _check(f"the bias of token {pair[0]}", pair[1], -_FAR, _FAR, " (or -inf, which forbids the token)")
    ids = [pair[0] for pair in pairs]
    if len(set(ids)) < len(ids):
        twice = next(token for token in ids if ids.count(token) > 1)
        raise UsageError(f"logit_bias names token {twice} twice; name it once.")
    return tuple(sorted((int(token), -math.inf if bias is False else float(bias)) for token, bias in pairs))


@dataclass(frozen=True)
class StopParams:
    """Ends of an answer besides an end token and a full context: ``max_tokens`` and ``stop`` strings."""

    max_tokens: int | None = None
    stop: Sequence[str] = ()

    def __post_init__(self) -> None:
        _own_numbers(self)
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
    """Length of drafts: at most ``max`` tokens a step; None: as many as pay off."""

    max: int | None = None

    def __post_init__(self) -> None:
        _own_numbers(self)
        if self.max is not None:
            _check("draft max", self.max, 0, MAX_DRAFT, " (0 drafts nothing)")


def check_pass_width(width: int | None, exactness: ExactnessMode) -> None:
    """Raise :class:`UsageError` for a width that passes cannot be padded to, or are not to be probed in."""
    if width not in (None, 1, *FIXED_WIDTHS) or isinstance(width, bool):
        widths = ", ".join(map(str, FIXED_WIDTHS))
        raise UsageError(f"pass_width is {width!r}; it must be 1 (passes are not padded), {widths}, or left open.")
    if width not in (None, 1) and exactness == "off":
        raise UsageError(f"pass_width is {width}, but exactness off never pads; leave one of them out.")


def check_image_tokens(image_tokens: tuple[int, int] | None) -> None:
    """Raise :class:`UsageError` for limits of a picture's cells that no projector has."""
    if image_tokens is None:
        return
    least, most = image_tokens
    if not all(isinstance(n, int) and not isinstance(n, bool) for n in image_tokens) or not 1 <= least <= most:
        raise UsageError(f"image_tokens is {image_tokens}; give two numbers, the least first, from 1 on.")
    if most > _MOST_IMAGE_TOKENS:
        raise UsageError(f"image_tokens is {image_tokens}; at most {_MOST_IMAGE_TOKENS} are possible.")


@dataclass(frozen=True)
class ContextParams:
    """Size and device of a context.

    ``ctx_size`` in tokens (None: the model's own, at most 8192). ``threads`` (None: the physical cores).
    ``gpu_layers`` (None: as many as fit the GPUs that llama.cpp reports). ``device``: a name that ``localspec devices``
    lists (None: all GPUs). ``cache_type_k`` and ``cache_type_v``: one of :data:`CACHE_TYPES` (None: q8_0 and f16 on a
    CPU, f16 on a GPU). ``batch``: tokens of a prefill call, on a CPU in passes of at most 256. ``tiled`` and
    ``repack`` allow CPU kernels that are faster for wide batches and whose rows may depend on the batch. ``sequences``:
    conversations at the same time, each with ``ctx_size`` tokens. ``media_cells``: most cells of a picture that must be
    decoded in one pass. ``rollback``: draft tokens that a recurrent state can take back at once, each for the memory of
    such a state. ``fast``: llama-server's cache types and passes on a
    CPU too, whether or not rows depend on them.
    """

    ctx_size: int | None = None
    threads: int | None = None
    gpu_layers: int | None = None
    device: str | None = None
    cache_type_k: str | None = None
    cache_type_v: str | None = None
    batch: int = 512
    verify_width: int = field(default=MAX_VERIFY_WIDTH)
    tiled: bool = True
    repack: bool = True
    sequences: int = 1
    rollback: int = ROLLBACK
    fast: bool = False
    media_cells: int = 0

    def __post_init__(self) -> None:
        _own_numbers(self)
        _check("parallel", self.sequences, 1, MAX_PARALLEL)
        if self.ctx_size is not None:
            _check("ctx_size", self.ctx_size, 1, _HUGE)
        if self.threads is not None:
            _check("threads", self.threads, 1, 512)
        if self.gpu_layers is not None:
            _check("gpu_layers", self.gpu_layers, -1, _HUGE, " (-1 is all)")
        for name in ("cache_type_k", "cache_type_v"):
            if getattr(self, name) not in (None, *CACHE_TYPES):
                raise UsageError(f"{name} is {getattr(self, name)!r}; it must be one of {', '.join(CACHE_TYPES)}.")
        _check("batch", self.batch, MAX_VERIFY_WIDTH, 65536)
        _check("verify_width", self.verify_width, 1, MAX_VERIFY_WIDTH)
        _check("rollback", self.rollback, 0, MAX_DRAFT)

    def pass_width(self, *, gpu: bool) -> int:
        """Most tokens of text that llama.cpp computes at once."""
        return self.batch if gpu or self.fast else min(self.batch, _CPU_PASS)

    def rows(self, *, gpu: bool) -> int:
        """Rows for which llama.cpp keeps buffers: those of a pass of text, or of a picture that is one pass."""
        return max(self.pass_width(gpu=gpu), self.media_cells)
