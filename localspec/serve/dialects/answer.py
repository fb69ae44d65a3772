"""Parts of answers that several interfaces share: usage, timings, log probabilities, the stop string that was met."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from localspec._version import __version__
from localspec.chat.call_parts import CallPart
from localspec.generation.logprobs import TokenLogprobs
from localspec.generation.result import Completion
from localspec.generation.stats import Stats
from localspec.serve.dialects.fields import JsonObject
from localspec.serve.dialects.job import Bytes, Delta, Done, Sent

FINGERPRINT = f"localspec-{__version__}"
#: Stands for a log probability of minus infinity, which JSON does not have.
LEAST = -9999.0


def new_id(prefix: str) -> str:
    """An id that no one guesses: it is the key to a stored answer."""
    return f"{prefix}{secrets.token_hex(16)}"


def now() -> int:
    """Seconds since the epoch."""
    return int(time.time())


def finish_reason(done: Completion) -> str:
    """OpenAI's word for the end of an answer."""
    return "stop" if done.finish_reason == "cancelled" else done.finish_reason


def sums(done: Sequence[Done], prompts: int = 1) -> tuple[int, int, int, int]:
    """Tokens of ``prompts``, of them cached, of answers, of them thoughts; each prompt counts once."""
    each = max(1, len(done) // max(1, prompts))
    firsts = done[::each]
    return (
        sum(one.completion.stats.prompt_tokens for one in firsts),
        sum(one.completion.stats.cached_tokens for one in firsts),
        sum(len(one.completion.tokens) for one in done),
        sum(one.thought_tokens for one in done),
    )


def usage(done: Sequence[Done], prompts: int = 1) -> JsonObject:
    """OpenAI's usage of chat completions and completions."""
    asked, cached, answered, thought = sums(done, prompts)
    return {
        "prompt_tokens": asked,
        "completion_tokens": answered,
        "total_tokens": asked + answered,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": thought},
    }


def timings(done: Sequence[Done]) -> JsonObject:
    """llama-server's timings, with the draft tokens; ``passes`` of the target, ``drafters`` by name."""
    total = Stats()
    for one in done:
        total.add(one.completion.stats)
    fresh, predicted = total.prefilled_tokens, total.generated_tokens
    return {
        "cache_n": total.cached_tokens,
        "prompt_n": fresh,
        "prompt_ms": round(total.prompt_s * 1e3, 3),
        "prompt_per_second": round(fresh / total.prompt_s, 3) if total.prompt_s > 0 else 0.0,
        "predicted_n": predicted,
        "predicted_ms": round(total.generate_s * 1e3, 3),
        "predicted_per_second": round(total.tokens_per_s, 3),
        "draft_n": total.proposed,
        "draft_n_accepted": total.accepted,
        "passes": total.steps,
        "drafters": {
            name: {"draft_n": count.proposed, "draft_n_accepted": count.accepted}
            for name, count in total.by_drafter.items()
        },
    }


def extras(done: Sequence[Done]) -> JsonObject:
    """Fields that the originals do not have: timings, exactness, seed and notices of the answers."""
    first = done[0].completion
    found: JsonObject = {"timings": timings(done), "exactness": first.exactness, "seed": first.seed}
    notices = [one.completion.notice for one in done if one.completion.notice]
    return {**found, **({"notices": notices} if notices else {})}


def sources(delta: Delta) -> JsonObject:
    """Text and source of each token of a chunk."""
    return {"pieces": list(delta.chunk.pieces), "sources": list(delta.chunk.sources)}


def chat_logprobs(found: Sequence[TokenLogprobs], piece: Bytes) -> JsonObject:
    """Log probabilities of tokens in the form of chat completions."""

    def entry(token: int, logprob: float) -> JsonObject:
        data = piece(token)
        text = data.decode("utf-8", errors="replace")
        return {"token": text, "logprob": max(logprob, LEAST), "bytes": list(data)}

    content = [{**entry(one.token, one.logprob), "top_logprobs": [entry(*pair) for pair in one.top]} for one in found]
    return {"content": content, "refusal": None}


def text_logprobs(found: Sequence[TokenLogprobs], piece: Bytes, offset: int = 0) -> JsonObject:
    """Log probabilities of tokens in the form of completions. ``offset``: characters before them."""

    def text(token: int) -> str:
        return piece(token).decode("utf-8", errors="replace")

    tokens = [text(one.token) for one in found]
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token)
    return {
        "tokens": tokens,
        "token_logprobs": [max(one.logprob, LEAST) for one in found],
        "top_logprobs": [{text(token): max(value, LEAST) for token, value in one.top} for one in found],
        "text_offset": offsets,
    }


def stop_met(done: Completion, stops: Sequence[str], piece: Bytes) -> str | None:
    """The stop string that ended the answer: its last tokens contain it, and nothing before them can."""
    if done.finish_reason != "stop" or not stops:
        return None
    longest = max(len(stop.encode()) for stop in stops)
    end = b"".join(piece(token) for token in done.tokens[-longest - 1 :]).decode("utf-8", errors="replace")
    return min((stop for stop in stops if stop in end), key=end.find, default=None)


class EndsWithDone:
    """The end of OpenAI's streams of chunks, also after an error. A comment serves as ping."""

    def ping(self) -> None:
        return None

    def fail(self, body: JsonObject) -> Iterator[Sent]:
        yield Sent(body)
        yield Sent("[DONE]")


class SentCalls:
    """The calls of a stream as far as they were sent, as names and arguments."""

    def __init__(self) -> None:
        self._sent: list[list[str]] = []

    def add(self, parts: Iterable[CallPart]) -> Iterator[CallPart]:
        """The ``parts``, each of which is about to be sent."""
        for part in parts:
            if part.name is not None:
                self._sent.append([part.name, ""])
                yield part._replace(arguments="")
            self._sent[-1][1] += part.arguments
            if part.arguments:
                yield part._replace(name=None)

    def rest(self, done: Completion) -> Iterator[CallPart]:
        """Parts of the calls of the whole answer that were not sent, or otherwise than they turned out to be."""
        sent, number = [tuple(call) for call in self._sent], len(self._sent)
        for call in done.tool_calls:
            name, arguments = call["function"]["name"], call["function"]["arguments"]
            if (name, arguments) in sent:
                sent.remove((name, arguments))
            else:
                yield from self.add([CallPart(number, name, arguments, call["id"])])
                number += 1


def calls_of(done: Completion) -> list[dict[str, Any]]:
    """The tool calls of an answer."""
    return [dict(call) for call in done.tool_calls]
