"""Real text of a wanted length, to put in front of a question."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from localspec.bench.prompts import BenchPrompt

Tokenize = Callable[[str], list[int]]
#: Categories whose prompts bring a text along.
WITH_TEXT = ("summarization", "rag", "edit")


def passages(prompts: Sequence[BenchPrompt]) -> str:
    """The texts that prompts of :data:`WITH_TEXT` bring, one after the other, in turn over the categories."""
    texts = [prompt.messages[-1]["content"] for prompt in prompts if prompt.category in WITH_TEXT]
    return "\n\n".join(texts)


def cut_to(text: str, tokens: int, tokenize: Tokenize) -> str:
    """The beginning of ``text`` that has about so many tokens, ended at a word. Ends the program if it is too short."""
    low, high = 0, len(text)
    if len(tokenize(text)) < tokens:
        raise SystemExit(f"the text has {len(tokenize(text))} tokens, and {tokens} are asked for; give a longer --text")
    while high - low > 8:
        middle = (low + high) // 2
        low, high = (middle, high) if len(tokenize(text[:middle])) <= tokens else (low, middle)
    return text[:low].rsplit(None, 1)[0]


def with_text(prompt: BenchPrompt, text: str) -> BenchPrompt:
    """``prompt`` as a question after ``text``; all such prompts begin with the same tokens."""
    *before, last = prompt.messages
    content = f"{text}\n\n---\n\n{last['content']}"
    return BenchPrompt(prompt.id, prompt.category, (*before, {**last, "content": content}))
