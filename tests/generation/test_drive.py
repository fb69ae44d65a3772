"""Laws of what drives the loop: passes are decoded, results handed on, and a cancelled coroutine decodes no more."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pytest

from localspec.control.base import Budget, FixedDepth
from localspec.draft.base import Draft, Prefix
from localspec.generation.loop import (
    ALONE,
    Cancelled,
    Load,
    Pass,
    Rules,
    Step,
    advance,
    budget_after,
    drive,
    execute,
    forced_run,
    verify,
)
from localspec.generation.passes import EDGE, UNPADDED, PassShape
from localspec.params import MAX_DRAFT
from localspec.protocols import Rows
from localspec.sampling import Sampler
from localspec.testing import ScriptedContext, ScriptedDrafter, chain_logits
from tests.generation.test_loop import PROMPT, Forcing, Watched
from tests.helpers.support import GREEDY, N_VOCAB, decode, prefill, prefix_of

LOGITS = chain_logits(N_VOCAB, 4)


def context(*cached: int) -> ScriptedContext:
    made = ScriptedContext(LOGITS, N_VOCAB)
    if cached:
        made.decode(cached, "none")
    made.decoded.clear()
    return made


class Talker:
    """Coroutine of two passes and three results; notes the rows that it gets. After a cancel it says more."""

    def __init__(self, last: Pass | str | None = "bye") -> None:
        self.rows: list[Any] = []
        self.last = last

    def talk(self) -> Generator[Pass | str, Rows, None]:
        try:
            self.rows.append((yield Pass((1, 2), "all")))
            yield "one"
            yield "two"
            self.rows.append((yield Pass((3,), "last")))
            yield "three"
        except Cancelled:
            self.rows.append("cancelled")
            yield "stopped"
            if self.last is not None:
                yield self.last
                yield "no more"


def test_passes_are_decoded_and_results_handed_on() -> None:
    """In their order, up to the end; each pass gets its rows and no result gets any."""
    talker, target = Talker(), context()
    assert list(drive(target, talker.talk())) == ["one", "two", "three"]
    assert target.decoded == [2, 1]
    assert [len(rows) for rows in talker.rows] == [2, 1]


@pytest.mark.parametrize(
    ("after", "said", "decoded"),
    [(0, [], 0), (1, ["one"], 2), (2, ["one", "two"], 2), (9, ["one", "two", "three"], 3)],
)
@pytest.mark.parametrize(
    ("last", "words"),
    [("bye", ["stopped", "bye", "no more"]), (Pass((5,), "all"), ["stopped"]), (None, ["stopped"])],
)
def test_a_cancelled_coroutine_says_its_last_words(
    after: int, said: list[str], decoded: int, last: Pass | str | None, words: list[str]
) -> None:
    """And decodes nothing more: it ends where it asks for a pass or at its end."""
    talker, target, heard = Talker(last), context(), list[str]()
    for word in islice(drive(target, talker.talk(), lambda: len(heard) >= after), 20):
        heard.append(word)
    assert heard == said + ([] if after == 9 else words)
    assert sum(target.decoded) == decoded


def test_a_coroutine_without_last_words_ends_by_the_cancel() -> None:
    """What it does not catch goes on to the caller."""

    def silent() -> Generator[Pass | str, Rows, None]:
        yield "one"
        yield Pass((1,), "all")

    target = context()
    with pytest.raises(Cancelled):
        list(drive(target, silent(), lambda: True))
    assert not target.decoded
    assert not list(drive(target, (item for item in list[Pass | str]())))  # type: ignore[arg-type]


def test_a_coroutine_is_advanced_to_its_next_result() -> None:
    """Its passes are yielded on the way, and their rows sent back."""
    talker, target = Talker(), context()
    talk = talker.talk()

    def at_once() -> Generator[Pass | list[str], Rows, None]:
        first = yield from advance(talk)
        second = yield from advance(talk)
        yield [first, second, (yield from advance(talk))]

    assert list(drive(target, at_once())) == [["one", "two", "three"]]
    assert target.decoded == [2, 1]
    assert [len(rows) for rows in talker.rows] == [2, 1]


@pytest.mark.parametrize("outputs", ["all", "last", "none", 0, 1, 2, 3])
@pytest.mark.parametrize("width", [1, 3, 8])
def test_a_padded_pass_gives_the_rows_of_its_tokens(outputs: Any, width: int) -> None:
    """As many as asked for, the last ones, whatever fills it; and only the tokens stay cached."""
    tokens = (4, 5, 6)
    target = context(1, 2)
    rows = execute(target, Pass(tokens, outputs, width))
    count = outputs if isinstance(outputs, int) else {"all": 3, "last": 1, "none": 0}[outputs]
    expected = [LOGITS((1, 2, *tokens[: i + 1])).tolist() for i in range(3)][3 - count :]
    assert rows.tolist() == expected
    assert target.tokens == [1, 2, *tokens]
    assert target.decoded == [3 if width == 1 else width]


def test_what_is_verified() -> None:
    """What the cache lacks of the text and the draft, with a row for the last token and each of the draft."""
    rules = Rules(lambda _: False, lambda: 9, FixedDepth(), passes=PassShape.fixed(8))
    prefix, target = prefix_of([1, 2, 3, 4]), context(1, 2)
    assert verify(target, prefix, Draft((7, 8), ("a", "a"), (1.0, 1.0)), rules) == Pass((3, 4, 7, 8), 3, 8)
    assert verify(target, prefix, Draft(), replace(rules, passes=UNPADDED)) == Pass((3, 4), 1, 1)


def test_the_limits_of_a_pass() -> None:
    """Pending tokens count in its width and not in those of the answer. Rows of others are told."""

    class Busy(Load):
        def coming(self) -> tuple[int, Callable[[int], float] | None]:
            return 5, price

    def price(rows: int) -> float:
        return rows * 1.0

    prefix, target = prefix_of([1, 2, 3, 4]), context(1, 2)
    rules = Rules(lambda _: False, lambda: 100, FixedDepth())
    assert rules.draft_max == MAX_DRAFT
    assert ALONE.coming() == (0, None)
    assert ALONE.last == 0
    assert budget_after(target, prefix, replace(rules, draft_max=999)) == Budget(2, 62, 100, 2, 0, None)
    assert budget_after(target, prefix, replace(rules, draft_max=5, load=Busy())) == Budget(2, 5, 100, 2, 5, price)
    assert budget_after(target, prefix, replace(rules, passes=PassShape(9))).max_draft == 7
    assert budget_after(target, prefix, replace(rules, left=lambda: 4)).max_draft == 3
    edge = context(*([1] * (EDGE - 10)))
    long = prefix_of([1] * (EDGE - 8))
    assert budget_after(edge, long, replace(rules, passes=PassShape.fixed(8))).max_draft == 1


def test_forced_tokens_fit_the_next_pass() -> None:
    """Beside the token before them; none with log probabilities, after an end token or without a grammar."""
    rules = Rules(lambda token: token == 9, lambda: 100, FixedDepth(), passes=PassShape(3))

    def forced(text: list[int], rules: Rules, grammar: bool = True) -> tuple[tuple[int, ...], bool]:
        prefix = Prefix(text, Sampler(GREEDY, Forcing() if grammar else None), hidden=np.zeros(4))
        return forced_run(prefix, rules), prefix.hidden is None

    six = [1] * 6
    assert forced(six, replace(rules, passes=PassShape(64))) == ((6, 7, 8, 9), True)
    assert forced(six, rules) == ((6, 7), True)
    assert forced(six, replace(rules, passes=PassShape(1))) == ((), False)
    assert forced(six, replace(rules, logprobs=0)) == ((), False)
    assert forced([*six[:5], 9], rules) == ((), False)
    assert forced(six[:4], rules) == ((), False)
    assert forced(six, rules, grammar=False) == ((), False)
    # a padded pass at the edge of the cells has room for fewer
    text = [1] * (EDGE - 10)
    assert len(text) % 6 == 0
    assert forced(text, replace(rules, passes=PassShape.fixed(8)))[0] == (6, 7, 8)


def test_a_step_s_proposals_are_no_padding() -> None:
    """Three tokens, the last one of them to fill the pass."""
    assert Step((1,), 0, Draft((1, 2, 2), ("a",) * 3, (0.5,) * 3, 1)).proposed == 2
    assert (Step((1,), 0, Draft()).forced, Step((1,), 0, Draft()).logprobs) == (0, ())


@pytest.mark.parametrize("width", [2, 8])
def test_hidden_rows_of_padded_passes(width: int) -> None:
    """That of the second last token, with forced tokens before it in the pass or without."""

    def logits(tokens: tuple[int, ...]) -> Any:
        row = LOGITS(tokens)
        row[:2] = [-100 - len(tokens), -100 - tokens[-1]]
        return row

    for drafters in ([], [ScriptedDrafter(lambda tokens: [len(tokens) % N_VOCAB] * 3)]):
        target, prefix = ScriptedContext(logits, N_VOCAB), Prefix(list(PROMPT), Sampler(GREEDY, Forcing()))
        rows, _ = prefill(target, prefix, 512)
        rules = Rules(lambda _: False, lambda: 1 << 20, FixedDepth(3), reads_hidden=True, passes=PassShape.fixed(width))
        seen = 0
        for step in islice(decode(target, prefix, rows, drafters, rules), 30):
            assert (prefix.hidden is None) == (step.forced > 0)
            if prefix.hidden is not None:
                seen += 1
                assert prefix.hidden[:2].tolist() == [-100 - (len(prefix.tokens) - 1), -100 - prefix.tokens[-2]]
        assert seen > 5


def test_control_learns_the_rows_that_others_had() -> None:
    """Not those that were expected."""

    class Changing(Load):
        last = 0

        def coming(self) -> tuple[int, Callable[[int], float] | None]:
            self.last += 3
            return self.last - 3 * (self.last == 6), None

    control, target, prefix = Watched(), context(), prefix_of(PROMPT)
    rows, _ = prefill(target, prefix, 512)
    rules = Rules(lambda _: False, lambda: 99, control, load=Changing())
    list(islice(decode(target, prefix, rows, [ScriptedDrafter(lambda _: [1])], rules), 4))
    assert [budget.others for budget in control.budgets] == [3, 3, 9]
    assert [learned[2].others for learned in control.learned] == [3, 6, 9]
