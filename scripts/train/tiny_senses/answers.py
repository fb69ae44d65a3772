"""Answers of the built-in target to pictures, sounds and texts, for the training of its assistant."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import localspec
from localspec.engine import Engine
from localspec.media.cells import is_cell, runs
from scripts.check.tiny_senses import png, wav
from scripts.train.tiny_pair.assistant import prompts
from scripts.train.tiny_pair.corpus import conversation, held_out_prompts
from scripts.train.tiny_senses.scenes import PICTURE_QUESTIONS, SOUND_QUESTIONS, a_picture, a_sound

#: Most tokens of an answer, and of a prompt in characters.
MOST, LONGEST = 160, 1600


@dataclass(frozen=True)
class Answer:
    """Token ids, 0 at cells, with the first of them that the target said, and its media.

    ``media``: where each begins, its embeddings (cells, width), and if its cells see one another.
    """

    tokens: list[int]
    begin: int
    media: tuple[tuple[int, np.ndarray, bool], ...] = ()


def text_answers(llm: Engine, count: int, seed: int) -> Iterator[Answer]:
    """Answers to prompts of the corpus; one in five is sampled."""
    texts = (text for text in prompts(seed) if len(text) < LONGEST)
    for number, text in enumerate(itertools.islice(texts, count)):
        end = "<turn|>" if text.endswith("<|turn>model\n") else "<eos>"
        yield _answer(llm, llm.tokenize(text), end, temperature=0.8 * (number % 5 == 4), seed=number)


def held_out_answers(llm: Engine, count: int, seed: int = 99) -> Iterator[Answer]:
    for messages in held_out_prompts(count, seed):
        yield _answer(llm, llm.prompt_tokens(messages), "<turn|>", temperature=0.0)


def media_answers(llm: Engine, count: int, seed: int) -> Iterator[Answer]:
    """Answers to new pictures and sounds; one in three is asked something else before or after it."""
    rng = random.Random(seed)
    for _ in range(count):
        heard = rng.random() < 0.3
        part: Any = localspec.Audio(wav(a_sound(rng), rng)) if heard else localspec.Image(png(a_picture(rng), rng))
        content = [part, rng.choice(SOUND_QUESTIONS if heard else PICTURE_QUESTIONS)]
        turn: dict[str, Any] = {"role": "user", "content": content if rng.random() < 0.7 else content[::-1]}
        asked, place = _asked(rng), rng.random()
        messages = [turn]
        if place < 0.33:
            first, last = (turn, asked) if place < 0.15 else (asked, turn)
            said = llm.chat([first], max_tokens=MOST, temperature=0).text
            messages = [first, {"role": "assistant", "content": said}, last]
        yield _answer(llm, llm.prompt_tokens(messages), "<turn|>", temperature=0.0, messages=messages, media=[part])


def _asked(rng: random.Random) -> dict[str, str]:
    """A user's message of the corpus."""
    messages, _ = conversation(rng, max_turns=1)
    return next(message for message in messages if message["role"] == "user")


def _answer(
    llm: Engine, prompt: Sequence[int], end: str, *, messages: Any = None, media: Sequence[Any] = (), **sampling: Any
) -> Answer:
    """Let the target answer. Its end token is part of the answer."""
    done = llm.chat(messages, max_tokens=MOST, **sampling) if messages else None
    done = done or llm.generate(list(prompt), max_tokens=MOST, **sampling)
    said = [*done.tokens, *(llm.tokenize(end) if done.finish_reason == "stop" else [])]
    assert llm._reader is not None
    pieces, found = llm._reader.read(media).pieces, []
    for run in runs(prompt) if media else ():
        if is_cell(prompt[run.start]):
            piece = pieces[prompt[run.start]]
            found.append((run.start, piece.encode().astype(np.float16), not piece.causal))
    return Answer([max(token, 0) for token in prompt] + said, len(prompt), tuple(found))
