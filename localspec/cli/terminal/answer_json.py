"""An answer as the JSON object of ``--json`` and ``--jsonl``."""

from __future__ import annotations

import base64
import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from localspec.engine import Engine
    from localspec.generation.logprobs import TokenLogprobs
    from localspec.generation.result import Completion


def answer_json(engine: Engine, done: Completion, **first: Any) -> str:
    """One line of JSON, with ``first`` before the fields of the answer; only ASCII unless standard output is UTF-8."""
    ascii_only = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    return json.dumps({**first, **_fields(done), **_optional_fields(engine, done)}, ensure_ascii=ascii_only)


def _fields(done: Completion) -> dict[str, Any]:
    return {
        "text": done.text,
        "tokens": list(done.tokens),
        "finish_reason": done.finish_reason,
        "seed": done.seed,
        "exactness": done.exactness,
        "timings": done.stats.timings(),
        "draft": done.stats.draft(),
    }


def _optional_fields(engine: Engine, done: Completion) -> dict[str, Any]:
    """A difference of logits, a thought, tool calls and log probabilities, where there are any."""
    found: dict[str, Any] = {"difference": engine.difference} if done.exactness == "approximate" else {}
    if done.thought:
        found["thought"] = done.thought
    if done.tool_calls:
        found["tool_calls"] = list(done.tool_calls)
    if done.logprobs is not None:
        found["logprobs"] = _logprobs(engine, done.logprobs)
    return found


def _logprobs(engine: Engine, tokens: Sequence[TokenLogprobs]) -> list[dict[str, Any]]:
    return [
        {
            **_token(engine, one.token, one.logprob),
            "top": [_token(engine, token, logprob) for token, logprob in one.top],
        }
        for one in tokens
    ]


def _token(engine: Engine, token: int, logprob: float) -> dict[str, Any]:
    """A token whose bytes are no valid UTF-8 also has them as ``bytes``, in base 64."""
    piece = engine.vocabulary.piece(token)
    text = piece.decode("utf-8", errors="replace")
    whole = {} if text.encode() == piece else {"bytes": base64.b64encode(piece).decode()}
    return {"token": token, "text": text, **whole, "logprob": logprob}
