"""Options of one generation, and their checks."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypedDict, cast

from localspec.chat.template import Tools
from localspec.chat.tools import ToolChoice
from localspec.errors import UsageError
from localspec.generation.logprobs import check_logprobs
from localspec.grammar.answer import AnswerGrammar, answer_grammar
from localspec.params import DraftParams, SamplingParams, StopParams, given
from localspec.types import Progress


class Options(TypedDict, total=False):
    """Keyword options of every generation. Defaults are llama.cpp's; None means the default."""

    max_tokens: int | None
    """Most tokens of the answer; None: until it ends or the context is full."""
    temperature: float
    """0 is greedy. Default 0.8."""
    top_k: int
    """Sample from the k most likely tokens; 0 switches it off. Default 40."""
    top_p: float
    """Sample from the most likely tokens that together have this probability; 1 switches it off. Default 0.95."""
    min_p: float
    """Least probability, as a share of the most likely token's; 0 switches it off. Default 0.05."""
    typical_p: float
    """Sample from tokens of typical surprise that together have this probability. Default 1, off."""
    top_n_sigma: float
    """Largest distance from the largest logit, in standard deviations; 0 or less is off. Default -1."""
    xtc_probability: float
    """Probability that XTC removes all but the least likely of the tokens above ``xtc_threshold``. Default 0."""
    xtc_threshold: float
    """Probability above which XTC removes tokens; more than 0.5 switches it off. Default 0.1."""
    dynatemp_range: float
    """Range of the temperature below and above its value, by entropy. Default 0."""
    dynatemp_exponent: float
    """Exponent of the map from entropy to temperature. Default 1."""
    repeat_penalty: float
    """Divisor of the logits of earlier tokens, those of the prompt included. Default 1."""
    repeat_last_n: int
    """Tokens back that repeat, presence and frequency penalties count. Default 64."""
    presence_penalty: float
    """Subtracted from the logit of each earlier token. Default 0."""
    frequency_penalty: float
    """Subtracted once for every time the token occurred. Default 0."""
    dry_multiplier: float
    """Penalty of tokens that continue a repetition (DRY). Default 0."""
    dry_base: float
    """Growth of DRY's penalty with each repeated token. Default 1.75."""
    dry_allowed_length: int
    """Longest repetition without a penalty, in tokens. Default 2."""
    dry_penalty_last_n: int
    """Tokens back that DRY searches. Default 64."""
    dry_sequence_breakers: Sequence[str]
    """Texts that end a repetition. Default newline, colon, quote, asterisk."""
    logit_bias: Mapping[int, float] | Sequence[tuple[int, float]]
    """Token id → number added to its logit; −inf forbids the token."""
    seed: int | None
    """The same seed gives the same text with any drafter; None draws one."""
    stop: str | Sequence[str]
    """Strings that end the answer; they are not part of it."""
    draft_max: int | None
    """Most draft tokens of a step, 0 for none; None: as many as pay off."""
    progress: Progress | None
    """Called with (done, total) prompt tokens during the prefill."""
    logprobs: int | None
    """Report each token's log probability and those of this many most likely tokens; None reports nothing."""
    response_format: Mapping[str, Any] | None
    """JSON by a schema: ``{"type": "json_schema", "json_schema": {"schema": ...}}`` or ``{"type": "json_object"}``."""
    grammar: str | None
    """GBNF grammar of the answer."""
    parse_special: bool
    """Recognise control tokens in the prompt, as llama.cpp does. Default True; in a chat contents are always text."""
    cancel: threading.Event | None
    """Ends the generation between two passes once it is set, or gives up waiting for other callers."""


class ChatOptions(Options, total=False):
    """Keyword options of every chat: those of a generation, and these."""

    thinking: bool
    """Let a model that can think before it answers. Default False."""
    continue_final: bool
    """Continue the final message, an assistant's text; the answer is what follows it. Default False."""
    tools: Tools | None
    """Definitions of functions that the model may call, as in the OpenAI chat API."""
    tool_choice: ToolChoice | None
    """``none`` offers no tools, ``required`` forces a call, ``{"type": "function", "function": {"name": ...}}`` one of
    that tool. Default ``auto``."""
    parallel_tool_calls: bool
    """False: the answer ends with its first call. Default True."""


_NOT_SAMPLING = ("draft_max", "progress", "logprobs", "response_format", "grammar", "parse_special", "cancel")


@dataclass(frozen=True)
class Request:
    """Checked options of one generation."""

    sampling: SamplingParams
    stop: StopParams
    draft_max: int | None = None
    progress: Progress | None = None
    logprobs: int | None = None
    answer: AnswerGrammar | None = None
    parse_special: bool = True
    cancel: threading.Event | None = None

    @classmethod
    def from_options(cls, options: Options) -> Request:
        """Check ``options``; None means the default.

        Raises :class:`UsageError` for a value outside its range or an unknown name.
        """
        unknown = sorted(set(options) - {*Options.__annotations__, *(item.name for item in fields(SamplingParams))})
        if unknown:
            raise UsageError(f"there is no option {unknown[0]!r}; there are {', '.join(Options.__annotations__)}.")
        options = cast(Options, given(options))
        rest: dict[str, Any] = {key: value for key, value in options.items() if key not in _NOT_SAMPLING}
        stop, most = rest.pop("stop", ()), rest.pop("max_tokens", None)
        draft_max = options.get("draft_max")
        DraftParams(max=draft_max)
        logprobs = check_logprobs(options.get("logprobs"))
        stops = StopParams(most, (stop,) if isinstance(stop, str) else stop)
        answer = answer_grammar(options.get("response_format"), options.get("grammar"))
        if answer and stops.stop:
            raise UsageError("a stop string would cut a structured answer before its end; leave out stop.")
        cancel = options.get("cancel")
        if not isinstance(cancel, threading.Event | None):
            raise UsageError(f"cancel is {cancel!r:.40}; it must be a threading.Event.")
        parse_special = options.get("parse_special", True)
        if not isinstance(parse_special, bool):
            raise UsageError(f"parse_special is {parse_special!r:.40}; it must be True or False.")
        sampling = SamplingParams(**rest).seeded()
        return cls(sampling, stops, draft_max, options.get("progress"), logprobs, answer, parse_special, cancel)
