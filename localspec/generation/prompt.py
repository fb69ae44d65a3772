"""Prompts of raw text: text, token ids, or the gap between two texts that a model for code fills."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard, cast

from localspec.chat.conversation import ChatPrompt
from localspec.chat.plain_contents import PromptVocabulary
from localspec.errors import InputError
from localspec.protocols import FimTokens

#: Stands between files for models that have no token for that; llama-server's text.
_SNIPPET = "\n\n--- snippet ---\n\n"


@dataclass(frozen=True)
class Infill:
    """The gap between ``prefix`` and ``suffix``, whose text begins with ``begun``.

    ``extra``: names and texts of other files. Those are left out, the first first, then the far ends of the two texts,
    where the context does not hold everything.
    """

    prefix: str
    suffix: str
    begun: str = ""
    extra: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Prepared:
    """A prompt of one model, checked and tokenized; :meth:`localspec.Engine.prepare` makes it."""

    tokens: tuple[int, ...]
    chat: ChatPrompt | None = None


#: A prompt that no chat template changes.
RawPrompt = str | Sequence[int] | Infill | Prepared


#: Messages of a chat.
Messages = Sequence[Mapping[str, Any]] | Prepared


def is_raw(prompt: RawPrompt | Messages) -> TypeGuard[RawPrompt]:
    """True unless ``prompt`` is a list of messages, or made of one."""
    if isinstance(prompt, Prepared):
        return prompt.chat is None
    if isinstance(prompt, (str, Infill)) or not isinstance(prompt, Sequence):
        return True
    return bool(prompt) and not isinstance(prompt[0], Mapping)


def raw_tokens(vocabulary: PromptVocabulary, prompt: RawPrompt, room: int, *, parse_special: bool) -> list[int]:
    """The ids of ``prompt``. ``room``: most of them for an :class:`Infill`. Raises :class:`InputError`."""
    if isinstance(prompt, Infill):
        return _infill_tokens(vocabulary, prompt, room)
    found: list[int]
    if isinstance(prompt, str):
        found = vocabulary.tokenize(prompt, add_special=True, parse_special=parse_special)
    elif isinstance(prompt, Prepared):
        found = list(prompt.tokens)
    elif not isinstance(prompt, Sequence) or isinstance(prompt, bytes):
        raise InputError(f"the prompt is {type(prompt).__name__!r}; it must be text or token ids.")
    else:
        prompt = cast(Sequence[int], prompt)
        wrong = [one for one in prompt if type(one) is not int or not 0 <= one < vocabulary.n_tokens]
        if wrong:
            raise InputError(f"the prompt holds {wrong[0]!r:.40}; token ids go from 0 to {vocabulary.n_tokens - 1}.")
        found = list(prompt)
    if not found:
        raise InputError("the prompt is empty; give at least one token of text.")
    return found


def _infill_tokens(vocabulary: PromptVocabulary, infill: Infill, room: int) -> list[int]:
    """The prompt of a gap in the order of Qwen 2.5 Coder's paper (arXiv 2409.12186), as llama-server has it."""
    fim = vocabulary.fim
    if fim is None:
        raise InputError("this model has no tokens to fill a gap (FIM); use a model for code, or leave out the suffix.")

    def tokens(text: str) -> list[int]:
        return vocabulary.tokenize(text, add_special=False, parse_special=False)

    bos = [vocabulary.bos] if vocabulary.add_bos else []
    begun = tokens(infill.begun)
    room = max(16, room - len(bos) - len(begun) - 3)
    before, behind = tokens(infill.prefix), tokens(infill.suffix)
    most = max(room // 4, room - len(before))  # of the text behind the gap
    behind = behind[:most]
    before = before[max(0, len(before) - (room - len(behind))) :]
    extra = [token for name, text in infill.extra for token in (*_heading(fim, name, tokens), *tokens(text))]
    if extra and fim.repo >= 0:
        extra = [fim.repo, *tokens("myproject\n"), *extra, *_heading(fim, "filename", tokens)]
    left = room - len(before) - len(behind)
    extra = extra[max(0, len(extra) - left) :] if left > 0 else []
    return [*bos, *extra, fim.prefix, *before, *begun, fim.suffix, *behind, fim.middle]


def _heading(fim: FimTokens, name: str, tokens: Any) -> list[int]:
    return [fim.file, *tokens(f"{name}\n")] if fim.file >= 0 else list(tokens(_SNIPPET))
