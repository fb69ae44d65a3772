"""Cut text to a length in tokens and put it before a question."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from localspec.bench.prompts import BenchPrompt

Tokenize = Callable[[str], list[int]]
#: Categories whose prompts contain a text.
WITH_TEXT = ("summarization", "rag", "edit")


def passages(prompts: Sequence[BenchPrompt]) -> str:
    """Join the texts in the prompts of :data:`WITH_TEXT`, in turn over the categories."""
    texts = [prompt.messages[-1]["content"] for prompt in prompts if prompt.category in WITH_TEXT]
    return "\n\n".join(texts)


def cut_to(text: str, tokens: int, tokenize: Tokenize) -> str:
    """Return the beginning of ``text`` with about ``tokens`` tokens, cut at a space. Exits if it is too short."""
    low, high = 0, len(text)
    if len(tokenize(text)) < tokens:
        raise SystemExit(f"the text has {len(tokenize(text))} tokens, and {tokens} are asked for; give a longer --text")
    while high - low > 8:
        middle = (low + high) // 2
        low, high = (middle, high) if len(tokenize(text[:middle])) <= tokens else (low, middle)
    return text[:low].rsplit(None, 1)[0]


def with_text(prompt: BenchPrompt, text: str) -> BenchPrompt:
    """Put ``text`` before a prompt's question, so that all such prompts begin with the same tokens."""
    *before, last = prompt.messages
    content = f"{text}\n\n---\n\n{last['content']}"
    return BenchPrompt(prompt.id, prompt.category, (*before, {**last, "content": content}))
