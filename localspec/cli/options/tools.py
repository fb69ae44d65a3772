"""``--tools`` and ``--logprobs``: read from the command line, and shown in the output."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from localspec.chat.tools import check_tools
from localspec.cli.messages import label, read_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from localspec.chat.tools import ToolCall
    from localspec.engine import Engine
    from localspec.generation.logprobs import TokenLogprobs
    from localspec.generation.result import Completion


def read_tools(path: str) -> list[dict[str, Any]]:
    """``--tools``: a JSON list of function definitions, as in the OpenAI chat API."""
    return list(check_tools(read_json(path), label(path)))


def shown_call(call: ToolCall) -> str:
    """One line about a call that nobody has run."""
    return f"Tool call: {call['function']['name']}({call['function']['arguments']})"


def more_fields(engine: Engine, done: Completion) -> dict[str, Any]:
    """What ``--json`` has only where there is any: a thought and tool calls; and log probabilities where asked for."""
    found: dict[str, Any] = {}
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
    """``text`` is what of the token is text; where that is not all of it, ``bytes`` has all, in base 64."""
    piece = engine.vocabulary.piece(token)
    text = piece.decode("utf-8", errors="replace")
    whole = {} if text.encode() == piece else {"bytes": base64.b64encode(piece).decode()}
    return {"token": token, "text": text, **whole, "logprob": logprob}
