"""One line for each request: times and counts; texts only on request."""

from __future__ import annotations

import time
from typing import Any

from localspec.media.parts import is_media_part
from localspec.media.source import Media
from localspec.serve.problem import RequestError
from localspec.serve.scheduler import Job


def refusal(path: str, problem: RequestError) -> dict[str, Any]:
    """The fields of a request that was refused: not the message, which may quote a value."""
    return {"time": _now(), "path": path, "status": problem.status, "field": problem.field}


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def line(job: Job, problem: RequestError | None, *, texts: bool) -> dict[str, Any]:
    """The fields of a request that ended."""
    stats = job.stats
    found: dict[str, Any] = {
        "time": _now(),
        "model": job.model.id,
        "status": problem.status if problem else 200,
        "answers": len(job.done),
        "prompt_tokens": stats.prompt_tokens,
        "cached_tokens": stats.cached_tokens,
        "generated_tokens": stats.generated_tokens,
        "tokens_per_s": round(stats.tokens_per_s, 2),
        "drafted": stats.proposed,
        "accepted": stats.accepted,
    }
    if texts:
        found["prompts"] = [_plain(prompt) for prompt in job.ask.prompts]
        found["texts"] = [done.completion.text for done in job.done]
    return found


def _plain(value: Any) -> Any:
    """A prompt with the kinds of pictures and sounds in place of their data."""
    if isinstance(value, Media):
        return f"({value.kind})"
    if is_media_part(value):
        return f"({value['type']})"
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
