"""Fields that several interfaces share, declared once: they read the requests, and ``/openapi.json`` is made of them.

Ranges are those of :mod:`localspec.params`, which checks the values.
"""

from __future__ import annotations

import secrets
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from localspec.params import SamplingParams
from localspec.serve.problem import RequestError, unsupported

#: A field of the originals that has no counterpart here. Values that switch it off pass.
Unsupported = Annotated[Any, Meta(description="Not supported: refused unless null, false or empty.")]
Ignored = Annotated[Any, Meta(description="Accepted, without effect.")]
JsonObject = dict[str, Any]


class Shared(msgspec.Struct, kw_only=True):
    """Fields of every interface. Those that an original lacks have llama.cpp's names."""

    model: (
        Annotated[str, Meta(description="A name that /v1/models lists. Default: the server's model.", max_length=512)]
        | None
    ) = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    typical_p: float | None = None
    top_n_sigma: float | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None
    dynatemp_range: float | None = None
    dynatemp_exponent: float | None = None
    repeat_penalty: float | None = None
    repeat_last_n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    dry_multiplier: float | None = None
    dry_base: float | None = None
    dry_allowed_length: int | None = None
    dry_penalty_last_n: int | None = None
    dry_sequence_breakers: list[str] | None = None
    logit_bias: (
        Annotated[dict[str, float], Meta(description="Token id → number added to its logit.", max_length=4096)] | None
    ) = None
    seed: Annotated[int | None, Meta(description="The same seed gives the same text. -1 or null draws one.")] = None
    mirostat: Annotated[int | None, Meta(description="Must be 0.")] = None
    grammar: Annotated[str | None, Meta(description="GBNF grammar of the answer.")] = None
    json_schema: Annotated[JsonObject | None, Meta(description="Schema of the answer, as llama.cpp names it.")] = None
    speculative: Annotated[bool | None, Meta(description="false answers without drafting; the text is the same.")] = (
        None
    )
    draft_max: Annotated[int | None, Meta(description="Most draft tokens of a step.")] = None
    sources: Annotated[
        bool | None,
        Meta(description="Stream each token's text and source (drafted or target) as well, in the field localspec."),
    ] = None
    user: str | None = None


#: A text, the ids of its tokens, or a list of such prompts.
RawPrompts = (
    Annotated[str, Meta(min_length=1)]
    | Annotated[
        list[Annotated[str, Meta(min_length=1)] | int | Annotated[list[int], Meta(min_length=1)]], Meta(min_length=1)
    ]
)
#: Prompts of one request.
_MOST_PROMPTS = 64


def prompts_of(given: str | list[str | int | list[int]], field: str = "prompt") -> tuple[str | list[int], ...]:
    """The prompts in a field. Raises :class:`RequestError` for a list that mixes texts and token ids."""
    if isinstance(given, str):
        return (given,)
    prompts = [one for one in given if not isinstance(one, int)]
    ids = [one for one in given if isinstance(one, int)]
    if prompts and ids:
        raise unsupported(field, "give texts or token ids alone", "mixed")
    if len(prompts) > _MOST_PROMPTS:
        raise RequestError(400, f"{field} has {len(prompts)} prompts; the most is {_MOST_PROMPTS}.", field=field)
    return tuple(prompts) if prompts else (ids,)


class FunctionCall(msgspec.Struct, kw_only=True):
    """Function of a tool call."""

    name: str
    arguments: str | JsonObject = "{}"


class ToolCall(msgspec.Struct, kw_only=True):
    """A call of a tool by the model."""

    id: str
    function: FunctionCall
    type: str = "function"


class Part(msgspec.Struct, kw_only=True):
    """Part of a content: text, a picture (``image_url``, ``input_image``) or a sound (``input_audio``)."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: Annotated[
        str | JsonObject | None, Meta(description="A data URL, or an object with it as url. Base64 of PNG or JPEG.")
    ] = None
    input_audio: Annotated[JsonObject | None, Meta(description="data: base64 of WAV, MP3 or FLAC.")] = None
    detail: Ignored = None


#: Types of parts that are no text.
_MEDIA = ("image_url", "input_image", "input_audio")
#: Fields of :class:`Shared` that are keywords of the engine's verbs under the same name.
_PASSED = frozenset(SamplingParams.__dataclass_fields__) - {"seed", "logit_bias"} | {"grammar", "draft_max"}


def shared_options(request: Shared, most: int | None, limit: int | None) -> dict[str, Any]:
    """Keywords of the engine's verbs. ``most``: tokens that are asked for. ``limit``: the server's for all answers."""
    found: dict[str, Any] = {name: value for name in sorted(_PASSED) if (value := getattr(request, name)) is not None}
    if request.speculative is False:
        found["draft_max"] = 0
    if request.json_schema is not None:
        found["response_format"] = {"type": "json_object", "schema": request.json_schema}
    if request.logit_bias:
        found["logit_bias"] = _biases(request.logit_bias)
    tokens = [count for count in (None if most == -1 else most, limit) if count is not None]
    if tokens:
        found["max_tokens"] = min(tokens)
    found["seed"] = secrets.randbits(32) if request.seed in (None, -1) else request.seed
    return found


def _biases(given: dict[str, float]) -> dict[int, float]:
    found = {}
    for token, bias in given.items():
        if not token.isdecimal():
            message = f"logit_bias names {token!r:.40}; its keys must be token ids."
            raise RequestError(400, message, field="logit_bias")
        found[int(token)] = bias
    return found


def refuse(request: msgspec.Struct, *names: str) -> None:
    """Raise :class:`RequestError` if any of these fields asks for anything."""
    for name in names:
        if getattr(request, name):
            raise unsupported(name)


def text_of(content: str | list[Part] | None, where: str) -> str:
    """The text of a content; parts become lines. Raises :class:`RequestError` for a part that is no text."""
    if content is None or isinstance(content, str):
        return content or ""
    texts = []
    for number, part in enumerate(content):
        text = part.refusal if part.type == "refusal" else part.text
        if part.type not in ("text", "input_text", "output_text", "refusal", "reasoning_text", "summary_text"):
            raise unsupported(f"{where}[{number}]", "only text is", part.type)
        if text is None:
            raise RequestError(400, f'{where}[{number}] has no "text".', field=f"{where}[{number}].text")
        texts.append(text)
    return "\n".join(texts)


def content_of(content: str | list[Part] | None, where: str) -> str | list[JsonObject]:
    """The content of a message that may have pictures and sounds, in the form of the engine. Raises likewise."""
    if content is None or isinstance(content, str) or all(part.type not in _MEDIA for part in content):
        return text_of(content, where)
    return [
        media_part(part, f"{where}[{i}]") if part.type in _MEDIA else _text_part(text_of([part], f"{where}[{i}]"))
        for i, part in enumerate(content)
    ]


def media_part(part: Part, where: str) -> JsonObject:
    """A picture or sound in the form of the engine."""
    if part.type == "input_audio":
        if part.input_audio is None:
            raise RequestError(400, f'{where} has no "input_audio".', field=where)
        return {"type": "input_audio", "input_audio": part.input_audio}
    url = part.image_url.get("url") if isinstance(part.image_url, dict) else part.image_url
    return picture(url, where)


def picture(url: Any, where: str) -> JsonObject:
    """A picture by its address, in the form of the engine. Only data URLs and those of the web may be read."""
    if not isinstance(url, str) or url.partition(":")[0].lower() not in ("data", "http", "https"):
        message = f"{where} has the address {url!r:.60}; give the picture as a data URL (data:image/png;base64,...)."
        raise RequestError(400, message, field=where)
    return {"type": "image_url", "image_url": {"url": url}}


def _text_part(text: str) -> JsonObject:
    return {"type": "text", "text": text}


def continues(messages: list[JsonObject]) -> bool:
    """True if the last message is the beginning of the answer."""
    return bool(messages[-1]["role"] == "assistant" and not messages[-1].get("tool_calls"))


def leading_system_merged(messages: list[JsonObject]) -> list[JsonObject]:
    """``messages`` with the system messages at the beginning as one: templates take one at most."""
    count = next((i for i, message in enumerate(messages) if message["role"] != "system"), len(messages))
    if count < 2:
        return messages
    text = "\n\n".join(message["content"] for message in messages[:count])
    return [{"role": "system", "content": text}, *messages[count:]]
