"""Laws of passes of fixed width: drafting gives the tokens of plain decoding in such passes, whatever kernels do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localspec.control.base import FixedDepth
from localspec.draft.base import Drafter, Prefix
from localspec.draft.ngram import NgramDrafter
from localspec.engine import Engine
from localspec.generation.loop import Pass, Rules, Step, execute
from localspec.generation.passes import EDGE, UNPADDED, PassShape
from localspec.params import FIXED_WIDTHS, SamplingParams
from localspec.protocols import Rows
from localspec.sampling import Sampler
from localspec.testing import ScriptedContext, ScriptedDrafter, chain_logits
from tests.generation.test_loop import DRAFTERS, Forcing, make_drafter
from tests.helpers.support import GREEDY, N_VOCAB, SAMPLINGS, decode, load_fixed, prefill
from tests.helpers.width_context import WidthContext

LENGTHS = st.one_of(st.integers(1, 9), st.integers(EDGE - 20, EDGE + 3))


def kernels(logits: Callable[[tuple[int, ...]], Rows]) -> WidthContext:
    """A target whose rows and cells depend on the number of rows of a pass, and rows on the cells that it reads."""
    return WidthContext(logits, N_VOCAB, narrow=1, group=None, edge=EDGE)


def run(
    drafters: Sequence[Drafter],
    sampler: Sampler,
    passes: PassShape,
    length: int,
    depth: int = 16,
    target: ScriptedContext | None = None,
) -> tuple[list[int], list[Step], ScriptedContext]:
    """60 tokens behind a prompt of ``length`` tokens, with the invariant of the cache checked at each step."""
    target, prefix = target or kernels(chain_logits(N_VOCAB, 4)), Prefix([i * i % 7 for i in range(length)], sampler)
    rows, _ = prefill(target, prefix, 256)
    target.decoded.clear()
    rules = Rules(lambda _: False, lambda: 1 << 20, FixedDepth(depth), passes=passes)
    steps: list[Step] = []
    for step in decode(target, prefix, rows, drafters, rules):
        steps.append(step)
        assert target.tokens == prefix.tokens[: len(target.tokens)]
        assert len(target.tokens) == len(prefix.tokens) - 1 - step.forced
        if len(prefix.tokens) >= length + 60:
            return prefix.tokens[length : length + 60], steps, target
    raise AssertionError("steps end")


@pytest.mark.parametrize("kind", [kind for kind in DRAFTERS if kind != "mtp"])
@given(st.sampled_from(SAMPLINGS), st.sampled_from(FIXED_WIDTHS), LENGTHS, st.integers(1, 16))
@settings(max_examples=25, deadline=None)
def test_any_drafter_gives_the_tokens_of_plain_decoding(
    kind: str, params: SamplingParams, width: int, length: int, depth: int
) -> None:
    """In passes of the same width, behind any prompt, greedy and seeded; and each pass has that width."""
    logits, shape = chain_logits(N_VOCAB, 4), PassShape.fixed(width)
    found, _, target = run(make_drafter(kind, logits, params), Sampler(params), shape, length, depth)
    assert found == run([], Sampler(params), shape, length)[0]
    assert set(target.decoded) == {width}


def test_unpadded_passes_change_the_tokens() -> None:
    """The law above can fail."""
    logits = chain_logits(N_VOCAB, 4)
    same = [run(make_drafter("right", logits, GREEDY), Sampler(GREEDY), UNPADDED, 5, depth)[0] for depth in range(6)]
    assert len(set(map(tuple, same))) > 3


@pytest.mark.parametrize("width", [2, 4, 8])
def test_drafts_fill_a_pass(width: int) -> None:
    """A drafter that is right brings as many tokens as a pass has rows, but where a pass would read more cells."""
    logits = chain_logits(N_VOCAB, 4)
    steps = run(make_drafter("right", logits, GREEDY), Sampler(GREEDY), PassShape.fixed(width), 9, target=plain(logits))
    assert {len(step.tokens) for step in steps[1][1:]} == {width}


def plain(logits: Any) -> ScriptedContext:
    """A target whose rows depend on nothing but the text."""
    return ScriptedContext(logits, N_VOCAB)


@given(st.sampled_from(FIXED_WIDTHS), st.integers(0, 3 * EDGE))
def test_a_pass_reads_as_many_cells_as_each_of_its_rows_alone(width: int, cached: int) -> None:
    """And ends only where the next row alone would read more."""

    def read(first: int) -> int:
        return -(-(first + width) // EDGE)

    room = PassShape.fixed(width).room(cached)
    assert 1 <= room <= width
    assert read(cached) == read(cached + room - 1)
    assert room == width or read(cached + room) > read(cached)


def test_a_width_of_one_is_none() -> None:
    """Passes then have as many rows as they have tokens."""
    assert PassShape.fixed(1) == UNPADDED
    assert UNPADDED.room(EDGE - 1) == UNPADDED.widest


@pytest.mark.parametrize("width", [4, 8])
@pytest.mark.parametrize("length", [5, *range(EDGE - 15, EDGE - 9)])
def test_forced_tokens_fit_the_pass(width: int, length: int) -> None:
    """With the draft behind them, and the text is that without a drafter."""

    def text(drafters: Sequence[Drafter]) -> list[int]:
        found, steps, target = run(drafters, Sampler(GREEDY, Forcing()), PassShape.fixed(width), length)
        assert set(target.decoded) == {width}
        assert sum(step.forced for step in steps) > 0
        return found

    expected = text([])
    knows = ScriptedDrafter(lambda tokens: expected[len(tokens) - length :][:8])
    for drafter in (knows, ScriptedDrafter(lambda tokens: [len(tokens) % N_VOCAB] * 8), NgramDrafter(min_match=1)):
        assert text([drafter]) == expected


@pytest.mark.parametrize("drafts", [True, False])
def test_hidden_row_is_of_the_second_last_token(drafts: bool) -> None:
    """Never of padding, also behind forced tokens, whose rows come before the first one that is looked at."""

    def logits(tokens: tuple[int, ...]) -> Any:
        row = chain_logits(N_VOCAB, 4)(tokens)
        row[:4] = [-100 - len(tokens), -100 - tokens[-1], -100, -100]
        return row

    target, prefix = plain(logits), Prefix([1, 2, 3, 1, 2], Sampler(GREEDY, Forcing()))
    rows, _ = prefill(target, prefix, 512)
    drafters = [ScriptedDrafter(lambda tokens: [len(tokens) % N_VOCAB] * 8)] if drafts else []
    rules = Rules(lambda _: False, lambda: 99, FixedDepth(8), reads_hidden=True, passes=PassShape.fixed(8))
    seen = 0
    for step in islice(decode(target, prefix, rows, drafters, rules), 30):
        if not step.forced:
            assert prefix.hidden is not None
            assert prefix.hidden[:2].tolist() == [-100 - (len(prefix.tokens) - 1), -100 - prefix.tokens[-2]]
            seen += 1
    assert seen > 3


@pytest.mark.parametrize(("outputs", "first"), [("all", 0), ("last", 2), (2, 1), ("none", 3)])
def test_a_padded_pass_is_answered_as_an_unpadded_one(outputs: Any, first: int) -> None:
    """With the rows that were asked for, and with the tokens that were given in the cache."""
    logits = chain_logits(N_VOCAB, 4)
    target = plain(logits)
    target.decode([9, 8], "none")
    rows = execute(target, Pass((5, 6, 7), outputs, 8))
    assert rows.tolist() == [logits((9, 8, 5, 6, 7)[: 3 + i]).tolist() for i in range(first, 3)]
    assert (target.tokens, target.decoded) == ([9, 8, 5, 6, 7], [2, 8])


# The built-in pair.

SAMPLED: tuple[dict[str, Any], ...] = ({"temperature": 0}, {"temperature": 1.0, "seed": 3})


def texts(engine: Engine, **options: Any) -> list[tuple[int, ...]]:
    """Answers to a prompt, to a conversation of two turns, within a grammar, and to the end of the context."""
    messages: list[Any] = [{"role": "user", "content": "Tell me of the sea."}]
    first = engine.chat(messages, max_tokens=24, **options)
    messages += [first.message, {"role": "user", "content": "And then?"}]
    found = [first, engine.chat(messages, max_tokens=24, **options)]
    shape = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    form: Any = {"type": "json_schema", "json_schema": {"schema": shape}}
    found.append(engine.chat(messages[:1], max_tokens=40, response_format=form, **options))
    found.append(engine.generate("Once upon a time", stop=["the"], logprobs=2, max_tokens=24, **options))
    found.append(engine.generate("Once upon a time there was a fox who lived in the woods. " * 8, **options))
    return [done.tokens for done in found]


@pytest.mark.parametrize("options", SAMPLED, ids=["greedy", "seeded"])
@pytest.mark.parametrize("width", [2, 8])
def test_every_drafter_of_the_built_in_pair_gives_the_same_tokens(width: int, options: dict[str, Any]) -> None:
    """In padded passes, with an assistant that reads the hidden rows of the real tokens."""
    found = []
    for draft in ("none", "ngram", "auto"):
        with load_fixed("tiny", draft, ctx_size=160, pass_width=width) as engine:
            assert (engine.exactness, engine.passes) == ("exact", PassShape.fixed(width))
            engine.control = FixedDepth(width)
            found.append(texts(engine, **options))
    assert found[0] == found[1] == found[2]


def test_an_assistant_is_right_as_often_in_padded_passes(tmp_path: Path) -> None:
    """It would not be, did it read a row of padding; and a saved cache goes on in padded passes."""
    accepted = []
    for width in (1, 8):
        with load_fixed("tiny", "auto", ctx_size=256, pass_width=width) as engine:
            engine.control = FixedDepth(4, "mtp")
            done = engine.generate("Once upon a time there was", max_tokens=60, temperature=0)
            accepted.append((done.tokens, done.stats.accepted))
            engine.save_state(tmp_path / f"{width}")
            again = engine.generate("Once upon a time there was", max_tokens=60, temperature=0)
            engine.load_state(tmp_path / f"{width}")
            assert engine.generate("Once upon a time there was", max_tokens=60, temperature=0).tokens == again.tokens
    assert accepted[0] == accepted[1]
    assert accepted[0][1] > 10
