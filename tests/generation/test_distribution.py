"""Samples of the loop have the target's own distribution with every drafter; a wrong acceptance rule fails the test.

The loop and the drafters are the real ones, on the built-in pair; rows that were computed once are remembered, so that
thousands of samples of three tokens take seconds. ``scripts/check/distribution.py`` draws 20,000 without that.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from localspec.control.base import FixedDepth
from localspec.draft.base import Drafter, Guess, Prefix
from localspec.draft.mtp import MtpDrafter
from localspec.draft.ngram import NgramDrafter
from localspec.generation import loop
from localspec.generation.accept import Accepted
from localspec.generation.loop import Rules
from localspec.gguf.header import read_header
from localspec.llama.context import LlamaContext
from localspec.llama.model import LlamaModel
from localspec.llama.mtp import LlamaMtpContext
from localspec.models.resolve import TINY_ASSISTANT, TINY_TARGET
from localspec.params import ContextParams, SamplingParams
from localspec.protocols import UNBOUNDED, Outputs, Rows, output_rows
from localspec.sampling import Sampler
from tests.helpers.distribution import PROMPTS, Path, cut, distribution, p_value, tree
from tests.helpers.support import decode, prefill

#: LOCALSPEC_SAMPLES=20000 draws more.
SAMPLES, FEW, LENGTH = int(os.environ.get("LOCALSPEC_SAMPLES", "2000")), 600, 3
TOP_PS = (1.0, 0.9)


class RememberedTarget:
    """A target context that computes each row once: a row is a function of the tokens before it."""

    n_ctx, decode_s, rollback = 256, 0.0, UNBOUNDED

    def __init__(self, context: LlamaContext) -> None:
        self.tokens: list[int] = []
        self._context = context
        self._known: dict[Path, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
        self._hidden: list[NDArray[np.float32]] = []
        self.prompt: Path = ()

    def decode(self, tokens: Sequence[int], outputs: Outputs = "all") -> Rows:
        self.tokens.extend(tokens)
        n, at = output_rows(outputs, len(tokens)), len(self.tokens)
        found = [self._row(tuple(self.tokens[: at - n + i + 1])) for i in range(n)]
        self._hidden = [hidden for _, hidden in found]
        return np.array([row for row, _ in found], np.float32)

    def _row(self, path: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if path not in self._known:
            self.fill(path[:-1])
            row = self._context.decode(path[-1:])[0].copy()
            self._known[path] = row, self._context.hidden()[0].copy()
        return self._known[path]

    def fill(self, tokens: Sequence[int]) -> None:
        """Let the real cache hold ``tokens``."""
        real = self._context.tokens
        same = next(
            (i for i, (a, b) in enumerate(zip(real, tokens, strict=False)) if a != b), min(len(real), len(tokens))
        )
        self._context.rewind(same)
        if same < len(tokens):
            self._context.decode(tokens[same:], "none")

    def reach(self, length: int) -> int:
        return length

    def mark(self, *, brief: bool = False) -> None:
        """Every token can be taken back."""

    def hidden(self) -> Rows:
        return np.array(self._hidden, np.float32)

    def rewind(self, length: int) -> None:
        del self.tokens[length:]

    def logits(self, path: Path) -> NDArray[np.float32]:
        return self._row((*self.prompt, *path))[0]

    prompt: tuple[int, ...] = ()


class RememberedMtp:
    """The assistant, each step computed once for the same cache, token and hidden row."""

    decode_s = 0.0

    def __init__(self, context: LlamaMtpContext, target: RememberedTarget) -> None:
        self._context, self._target = context, target
        self._known: dict[tuple[Path, int, bytes], tuple[Rows, Rows]] = {}
        self._hidden: Rows = np.zeros((1, 1), np.float32)

    def step(self, token: int, position: int, hidden: NDArray[Any]) -> Rows:
        key = tuple(self._target.tokens), token, hidden.tobytes()
        if key not in self._known:
            self._target.fill(self._target.tokens)
            rows = self._context.step(token, position, hidden).copy()
            self._known[key] = rows, self._context.hidden().copy()
        rows, self._hidden = self._known[key]
        return rows

    def hidden(self) -> Rows:
        return self._hidden

    def close(self) -> None:
        """The fixture closes the real one."""


class Argmax(MtpDrafter):
    """Drafts its likeliest token, without the noise that it shares with the target."""

    def propose(self, prefix: Prefix, ahead: Sequence[int] = ()) -> Iterator[Guess]:
        return super().propose(replace(prefix, sampler=Sampler(SamplingParams(temperature=0.0))), ahead)


class Pair:
    """The built-in pair, and three tokens of it for any seed."""

    def __init__(self, target: RememberedTarget, mtp: RememberedMtp, model: LlamaModel) -> None:
        self.target, self._mtp, self.is_end = target, mtp, model.vocabulary.is_end
        self._prompts = {
            name: tuple(model.vocabulary.tokenize(text, add_special=True)) for name, text in PROMPTS.items()
        }

    def drafters(self, name: str) -> list[Drafter]:
        kinds: dict[str, Callable[[], list[Drafter]]] = {
            "none": list,
            "ngram": lambda: [NgramDrafter()],
            "mtp": lambda: [MtpDrafter(self._mtp)],
            "mtp, argmax": lambda: [Argmax(self._mtp)],
        }
        return kinds[name]()

    def draw(self, drafters: list[Drafter], params: SamplingParams) -> tuple[Path, int]:
        """Three tokens of the real loop, and how many were drafted."""
        prefix = Prefix(list(self.target.prompt), Sampler(params))
        rows, _ = prefill(self.target, prefix, 512)  # type: ignore[arg-type]
        for drafter in drafters:
            drafter.observe(prefix)
        start, drafted = len(self.target.prompt), 0
        left = lambda: LENGTH - (len(prefix.tokens) - start)  # noqa: E731
        rules = Rules(self.is_end, left, FixedDepth(LENGTH), reads_hidden=True)
        for step in decode(self.target, prefix, rows, drafters, rules):  # type: ignore[arg-type]
            drafted += step.proposed
            if len(prefix.tokens) - start >= LENGTH or self.is_end(prefix.tokens[-1]):
                break
        return cut(prefix.tokens[start:], LENGTH, self.is_end), drafted

    def fits(self, name: str, top_p: float, samples: int = SAMPLES) -> float:
        """The p-value of the samples with a drafter."""
        self.target.prompt = self._prompts["ngram" if name == "ngram" else "mtp"]
        drafters, counts, drafted = self.drafters(name), Counter[Path](), 0
        for seed in range(samples):
            path, proposed = self.draw(drafters, SamplingParams(1.0, 0, top_p, 0.0, seed))
            counts[path] += 1
            drafted += proposed
        assert (drafted > samples / 2) == (name != "none")
        return p_value(counts, tree(self.target.logits, LENGTH, top_p, samples, self.is_end))


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    params = ContextParams(ctx_size=256, threads=1)
    model, assistant = LlamaModel(read_header(TINY_TARGET), params), LlamaModel(read_header(TINY_ASSISTANT), params)
    context = LlamaContext(model, params, 256, hidden=True)
    mtp = LlamaMtpContext(assistant, params, context)
    target = RememberedTarget(context)
    yield Pair(target, RememberedMtp(mtp, target), model)
    for part in (mtp, context, assistant, model):
        part.close()


@pytest.mark.parametrize("top_p", TOP_PS)
@pytest.mark.parametrize("drafter", ["none", "ngram", "mtp", "mtp, argmax"])
def test_samples_have_the_target_s_distribution(pair: Pair, drafter: str, top_p: float) -> None:
    """2,000 samples of three tokens at temperature 1 are no surprise."""
    p = pair.fits(drafter, top_p)
    print(f"{drafter}, top-p {top_p}, {SAMPLES} samples: p = {p:.3f}")
    assert p > 1e-3


Accept = Callable[..., Accepted]


def by_chance(top_p: float) -> Accept:
    """Accepts a draft token with the target's probability, and else takes the target's own choice."""

    def accept(
        draft: Sequence[int], rows: Rows, sampler: Sampler, before: Sequence[int], *_: Any, **__: Any
    ) -> Accepted:
        tokens: list[int] = []
        for i, row in enumerate(rows):
            own = sampler.pick(row, before, tokens)
            if i == len(draft):
                return Accepted((*tokens, own), i)
            coin = np.random.default_rng((sampler.params.seed or 0, len(before) + i)).random()
            if coin > distribution(row, top_p)[draft[i]]:
                return Accepted((*tokens, own), i)
            tokens.append(draft[i])
        raise AssertionError("there is a row more than draft tokens")

    return accept


def where_likely(top_p: float) -> Accept:
    """Accepts a draft token that the target gives a fifth or more, as lenient rules of acceptance do."""

    def accept(
        draft: Sequence[int], rows: Rows, sampler: Sampler, before: Sequence[int], *_: Any, **__: Any
    ) -> Accepted:
        tokens: list[int] = []
        for i, row in enumerate(rows):
            if i == len(draft) or distribution(row, top_p)[draft[i]] < 0.2:
                return Accepted((*tokens, sampler.pick(row, before, tokens)), i)
            tokens.append(draft[i])
        raise AssertionError("there is a row more than draft tokens")

    return accept


@pytest.mark.parametrize("top_p", TOP_PS)
@pytest.mark.parametrize("drafter", ["ngram", "mtp, argmax"])
@pytest.mark.parametrize("wrong", [by_chance, where_likely])
def test_a_wrong_rule_shows(
    pair: Pair, drafter: str, top_p: float, wrong: Callable[[float], Accept], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rules that accept what the target would not have chosen fail the same test."""
    monkeypatch.setattr(loop, "accept", wrong(top_p))
    assert pair.fits(drafter, top_p, FEW) < 1e-6
