"""What is asked of one generation: its options, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypedDict

from localspec.errors import UsageError
from localspec.generation.logprobs import check_logprobs
from localspec.grammar.answer import AnswerGrammar, answer_grammar
from localspec.params import DraftParams, SamplingParams, StopParams
from localspec.types import Progress


class Options(TypedDict, total=False):
    """Keyword options of every generation. Left out ones have llama.cpp's defaults."""

    max_tokens: int | None
    """At most so many tokens; None: until the answer ends or the context is full."""
    temperature: float
    """0 is greedy. Default 0.8."""
    top_k: int
    """Only the k likeliest tokens; 0 switches it off. Default 40."""
    top_p: float
    """Only the likeliest that together hold this probability; 1 switches it off. Default 0.95."""
    min_p: float
    """Only tokens at least so many times as likely as the likeliest; 0 switches it off. Default 0.05."""
    typical_p: float
    """Only tokens of typical surprise that together hold this probability; 1 switches it off, as by default."""
    top_n_sigma: float
    """Only logits within so many standard deviations of the largest; 0 or less switches it off, as by default."""
    xtc_probability: float
    """How often XTC leaves out all but the last of the tokens above ``xtc_threshold``. Default 0, never."""
    xtc_threshold: float
    """Default 0.1; more than 0.5 switches XTC off."""
    dynatemp_range: float
    """Temperature that much lower or higher, by entropy. Default 0."""
    dynatemp_exponent: float
    """How entropy maps to temperature. Default 1."""
    repeat_penalty: float
    """Divides the logits of earlier tokens, the prompt's as well. Default 1."""
    repeat_last_n: int
    """How far back repeat, presence and frequency penalties look. Default 64 tokens."""
    presence_penalty: float
    """Taken off the logit of each earlier token. Default 0."""
    frequency_penalty: float
    """Taken off as often as the token occurred. Default 0."""
    dry_multiplier: float
    """Penalty of tokens that would go on with a repetition (DRY). Default 0, none."""
    dry_base: float
    """How DRY's penalty grows with each repeated token. Default 1.75."""
    dry_allowed_length: int
    """Repetitions below this length are free. Default 2."""
    dry_penalty_last_n: int
    """How far back DRY looks. Default 64 tokens."""
    dry_sequence_breakers: Sequence[str]
    """Texts that no repetition reaches across. Default newline, colon, quote, asterisk."""
    logit_bias: Mapping[int, float] | Sequence[tuple[int, float]]
    """Token id → what is added to its logit; −inf forbids it."""
    seed: int | None
    """The same seed gives the same text, whatever drafts; None draws one."""
    stop: str | Sequence[str]
    """Strings that end the answer; they are not part of it."""
    draft_max: int | None
    """At most so many draft tokens a step, 0 for none; None leaves it to the drafter."""
    progress: Progress | None
    """Called with (done, total) prompt tokens while the prompt is read."""
    logprobs: int | None
    """Log probabilities of each token and of so many of the likeliest (0: none of those); None leaves them out."""
    response_format: Mapping[str, Any] | None
    """JSON, of a schema: ``{"type": "json_schema", "json_schema": {"schema": ...}}`` or ``{"type": "json_object"}``."""
    grammar: str | None
    """A GBNF grammar that the answer follows."""


_NOT_SAMPLING = ("draft_max", "progress", "logprobs", "response_format", "grammar")


@dataclass(frozen=True)
class Request:
    """One generation: how to sample, when to stop, how far to draft."""

    sampling: SamplingParams
    stop: StopParams
    draft_max: int | None = None
    progress: Progress | None = None
    logprobs: int | None = None
    answer: AnswerGrammar | None = None

    @classmethod
    def of(cls, options: Options) -> Request:
        """Check ``options``. Raises :class:`UsageError` for a value out of its range or an unknown name."""
        given: dict[str, Any] = {key: value for key, value in options.items() if key not in _NOT_SAMPLING}
        stop, most = given.pop("stop", ()), given.pop("max_tokens", None)
        unknown = sorted(set(given) - {item.name for item in fields(SamplingParams)})
        if unknown:
            raise UsageError(f"there is no option {unknown[0]!r}; there are {', '.join(Options.__annotations__)}.")
        draft_max = options.get("draft_max")
        DraftParams(max=draft_max)
        logprobs = check_logprobs(options.get("logprobs"))
        stops = StopParams(most, (stop,) if isinstance(stop, str) else stop)
        answer = answer_grammar(options.get("response_format"), options.get("grammar"))
        if answer and stops.stop:
            raise UsageError("a stop string would cut a structured answer before its end; leave out stop.")
        return cls(SamplingParams(**given).seeded(), stops, draft_max, options.get("progress"), logprobs, answer)
