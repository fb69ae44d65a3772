"""Laws of caches in files, and of continuing from them: damage is detected, and the following text is the same."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localspec.engine import Engine
from localspec.errors import BackendError, InputError
from localspec.files import write_sealed
from localspec.generation.saved_state import SavedState, read_state, write_state
from localspec.llama.saved_cells import is_state_of
from localspec.testing import chain_logits, scripted_engine
from tests.helpers.support import continue_tokens, load_fixed

SAVED = SavedState("model", "backend", (1, 2, 3), b"cache" * 100, {"text": "é", "tokens": [1]}, 64, 2)
SAMPLINGS: tuple[dict[str, Any], ...] = ({"temperature": 0}, {"temperature": 0.9, "seed": 5})
#: More than two sliding windows of the built-in pair.
LONG = "Tell me a story. " + "The little fox had a red ball and went into the wood. " * 16


def load(draft: str = "none", **options: Any) -> Engine:
    return load_fixed("tiny", draft, **options)


@pytest.fixture(scope="module", params=["none", "ngram", "auto"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """The built-in pair with each kind of drafter."""
    with load(request.param) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def plain() -> Iterator[Engine]:
    with load() as loaded:
        yield loaded


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def fresh(plain: Engine, tokens: list[int], **options: Any) -> tuple[int, ...]:
    """The same with nothing cached."""
    plain.forget()
    return continue_tokens(plain, tokens, **options).tokens


# The file.


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    """To the bit, with a turn and without, and the size is the file's."""
    for saved in (SAVED, SavedState("m", "b", (), b"", None)):
        size = write_state(tmp_path / "x.state", saved)
        assert read_state(tmp_path / "x.state") == saved
        assert (tmp_path / "x.state").stat().st_size == size
    assert [path.name for path in tmp_path.iterdir()] == ["x.state"]


def test_a_file_without_chunks_is_read(tmp_path: Path) -> None:
    """Earlier builds did not write them. Numbers that cannot be are damage."""
    header = {"model": "m", "backend": "b", "tokens": 1, "cache": 1, "turn": None}
    write_sealed(tmp_path / "s", b"LSSTATE1", header, b"\1\0\0\0", b"c")
    assert read_state(tmp_path / "s") == SavedState("m", "b", (1,), b"c")
    for wrong in ({"chunk": "64"}, {"prefilled": 2}, {"prefilled": -1}, {"prefilled": 1.0}):
        write_sealed(tmp_path / "s", b"LSSTATE1", {**header, **wrong}, b"\1\0\0\0", b"c")
        with pytest.raises(InputError, match="damaged"):
            read_state(tmp_path / "s")


def test_any_damage_is_noticed(tmp_path: Path) -> None:
    """Every byte counts, and every length."""
    path = tmp_path / "x.state"
    write_state(path, SAVED)
    data = path.read_bytes()
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])
        with pytest.raises(InputError, match="damaged"):
            read_state(path)
    for wrong in (*(data[:end] for end in range(0, len(data), 7)), data + b"\0", b"x" * 5000):
        path.write_bytes(wrong)
        with pytest.raises(InputError, match="damaged"):
            read_state(path)


def test_only_its_own_kind_is_replaced(tmp_path: Path) -> None:
    """Another file keeps what it has; a folder, a missing file and a full disk are one sentence each."""
    path = tmp_path / "x.state"
    path.write_text("precious")
    with pytest.raises(InputError, match="no saved cache"):
        write_state(path, SAVED)
    assert path.read_text() == "precious"
    for missing in (tmp_path, tmp_path / "none", tmp_path / "a\0b"):
        with pytest.raises(InputError):
            read_state(missing)
    with pytest.raises(InputError, match="cannot be written"):
        write_state(tmp_path / "no" / "folder", SAVED)


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a part nor a temporary file."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(InputError, match="No space left"):
        write_state(tmp_path / "x.state", SAVED)
    assert list(tmp_path.iterdir()) == []


# The cells.


def test_cells_that_llama_cpp_would_abort_on_do_not_reach_it(plain: Engine) -> None:
    """A state with other positions, sequences, lengths or sizes is refused before it is read."""
    plain.generate("Once upon a time", max_tokens=4, temperature=0)
    target: Any = plain._target
    state, tokens = target.state(), list(target.tokens)
    assert is_state_of(state, len(tokens))
    for n in (0, len(tokens) - 1, len(tokens) + 1):
        assert not is_state_of(state, n)
    refused = 0
    for at in range(16 + 12 * len(tokens) + 8 + 12):  # the head, the cells, and how K is stored
        wrong = bytearray(state)
        wrong[at] ^= 0x80
        if not is_state_of(bytes(wrong), len(tokens)):
            refused += 1
            with pytest.raises(BackendError, match="does not fit"):
                target.restore(bytes(wrong), tokens)
            assert target.tokens == []
    assert refused >= 16 + 8 * len(tokens)
    for wrong_state in (b"", state[:-1], state + b"\0", state[: len(state) // 2]):
        assert not is_state_of(wrong_state, len(tokens))
    target.restore(state, tokens)
    assert target.tokens == tokens


# Going on.


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=["greedy", "seed"])
@pytest.mark.parametrize("first", ["Hello.", LONG], ids=["short", "windows"])
def test_cache_rewound_saved_or_fresh_same_text(
    engine: Engine, plain: Engine, tmp_path: Path, first: str, sampling: dict[str, Any]
) -> None:
    """A turn continued from cache, from a file, from a rewound cache, and a prefill of the same tokens."""
    options = {"max_tokens": 24, **sampling}
    messages = [user(first)]
    one = engine.chat(messages, **options)
    messages += [one.message, user("And then?")]
    engine.save_state(tmp_path / "s")
    prompt = engine.prompt_tokens(messages)
    expected = fresh(plain, prompt, **options)
    continued = engine.chat(messages, **options)
    assert (continued.tokens, continued.stats.cached_tokens > 0) == (expected, True)
    assert engine.chat(messages, **options).tokens == expected  # rewound
    engine.chat([user("Something else entirely.")], **options)
    assert engine.load_state(tmp_path / "s") > 0
    assert engine.prompt_tokens(messages) == prompt
    loaded = engine.chat(messages, **options)
    assert loaded.tokens == expected
    assert loaded.stats.cached_tokens == continued.stats.cached_tokens
    engine.forget()
    assert fresh(engine, prompt, **options) == expected


@pytest.mark.parametrize("draft", ["none", "auto"])
def test_loaded_in_another_engine_only_what_is_new_is_prefilled(draft: str, plain: Engine, tmp_path: Path) -> None:
    """Another process in effect: its assistant drafts again at once, and the text is that of a prefill."""
    options: dict[str, Any] = {"temperature": 0, "max_tokens": 24}
    messages = [user(LONG)]
    with load(draft) as one:
        messages += [one.chat(messages, **options).message, user("And then?")]
        one.save_state(tmp_path / "s")
        prompt, cached = one.prompt_tokens(messages), len(one._target.tokens)
    with load(draft) as two:
        assert two.load_state(tmp_path / "s") == cached
        done = two.chat(messages, **options)
        assert (done.stats.prompt_tokens, done.stats.cached_tokens) == (len(prompt), cached)
        assert done.tokens == fresh(plain, prompt, **options)
        assert (done.stats.accepted > 4) == (draft == "auto")


@pytest.mark.parametrize("keep", [40, 150, -30, -3, -2, -1, 0])
def test_earlier_than_the_saved_window_is_prefilled_anew(
    engine: Engine, plain: Engine, tmp_path: Path, keep: int
) -> None:
    """Regenerating from an earlier place after a load: of the window only its end was saved.

    To the last bit of the log probabilities: a few missing cells at the window's far end seldom change a token.
    """
    options: dict[str, Any] = {"temperature": 0, "max_tokens": 20, "logprobs": 0}
    engine.generate(LONG, **options)
    engine.save_state(tmp_path / "s")
    held = list(engine._target.tokens)
    assert len(held) > 200
    prompt = [*(held[:keep] if keep else held), *engine.tokenize(" But then")][: len(held) + 4]
    for tokens in (prompt, held):
        plain.forget()
        expected = continue_tokens(plain, tokens, **options)
        engine.load_state(tmp_path / "s")
        found = continue_tokens(engine, tokens, **options)
        assert (found.tokens, found.logprobs) == (expected.tokens, expected.logprobs)


def test_saved_again_after_a_load_is_as_good(plain: Engine, engine: Engine, tmp_path: Path) -> None:
    """Load, go on, save, load, go on: beyond several windows."""
    options: dict[str, Any] = {"temperature": 0, "max_tokens": 30}
    messages = [user(LONG)]
    for turn in range(4):
        messages += [engine.chat(messages, **options).message, user(f"Turn {turn}: and then?")]
        engine.save_state(tmp_path / "s")
        engine.chat([user("No.")], **options)
        engine.load_state(tmp_path / "s")
    prompt = engine.prompt_tokens(messages)
    assert engine.chat(messages, **options).tokens == fresh(plain, prompt, **options)


@pytest.mark.parametrize("seed", range(4))
def test_interrupts_saves_and_other_talk_change_nothing(
    engine: Engine, plain: Engine, tmp_path: Path, seed: int
) -> None:
    """Any order of turns, stops after any step, saves, loads and rewinds: each answer is that of a fresh prefill."""
    dice = random.Random(seed)
    first = LONG if seed % 2 else "Hi. Who are you?"
    messages, saved = [user(first)], [user(first)]
    engine.forget()
    engine.chat(messages, max_tokens=2, temperature=0)
    engine.save_state(tmp_path / "s")
    for number in range(7):
        options = {"max_tokens": dice.randint(3, 20), **dice.choice(SAMPLINGS)}
        kind = dice.choice(["turn", "stop", "again", "save", "load", "turn"])
        if kind == "save":
            engine.save_state(tmp_path / "s")
            saved = list(messages)
        elif kind == "load":
            engine.load_state(tmp_path / "s")
            messages = list(saved)
        prompt = engine.prompt_tokens(messages)
        if kind == "stop":
            chunks = engine.stream_chat(messages, **options)
            text = "".join(next(chunks).text for _ in range(dice.randint(1, 2)))
            chunks.close()  # type: ignore[attr-defined]
            answer = {"role": "assistant", "content": text}
        else:
            done = engine.chat(messages, **options)
            assert done.tokens == fresh(plain, prompt, **options), f"{kind} at {number}"
            answer = done.message
        if kind != "again":
            messages += [answer, user(dice.choice(["Go on.", "Why?", "And the fox?"]))]


def test_draft_model_catches_up_after_a_load(plain: Engine, tmp_path: Path) -> None:
    """Its cache is not in the file: it reads the tokens when it next observes, and is as right as before."""
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(plain.model.path.read_bytes())
    options: dict[str, Any] = {"temperature": 0.9, "seed": 3, "max_tokens": 24}
    with load(str(copy)) as drafting:
        messages = [user(LONG)]
        messages += [drafting.chat(messages, **options).message, user("And then?")]
        drafting.save_state(tmp_path / "s")
        prompt = drafting.prompt_tokens(messages)
        drafting.chat([user("No.")], **options)
        drafting.load_state(tmp_path / "s")
        done = drafting.chat(messages, **options)
        assert done.tokens == fresh(plain, prompt, **options)
        count = done.stats.by_drafter["model"]
        assert count.accepted == count.proposed > 0


def test_cells_that_an_interrupt_left_are_not_saved(plain: Engine, tmp_path: Path) -> None:
    """In the cache, and in no token list: a signal came between the two."""
    plain.generate("Once upon a time", max_tokens=6, temperature=0)
    target: Any = plain._target
    del target.tokens[-2:]
    target._unfinished = True
    held = list(target.tokens)
    plain.save_state(tmp_path / "s")
    plain.forget()
    assert plain.load_state(tmp_path / "s") == len(held)
    assert target.tokens == held


# What does not fit.


def test_other_model_settings_or_build_are_told_apart(plain: Engine, tmp_path: Path) -> None:
    """Each is one sentence, and the cache stays as it was."""
    plain.generate("Once upon a time", max_tokens=4, temperature=0)
    plain.save_state(tmp_path / "s")
    before = list(plain._target.tokens)
    good = read_state(tmp_path / "s")
    others = {
        "another model": SavedState("other", good.backend, good.tokens, good.cache),
        "other settings": SavedState(good.model, good.backend + " x", good.tokens, good.cache),
        "does not have": SavedState(good.model, good.backend, (*good.tokens[:-1], 10**6), good.cache),
    }
    for words, other in others.items():
        write_state(tmp_path / "o", other)
        with pytest.raises(InputError, match=words):
            plain.load_state(tmp_path / "o")
        assert plain._target.tokens == before
    with load(ctx_size=512) as smaller, pytest.raises(InputError, match="other settings"):
        smaller.load_state(tmp_path / "s")
    scripted = scripted_engine(chain_logits(64, 1))
    with pytest.raises(InputError, match="another model"):
        scripted.load_state(tmp_path / "s")
    with pytest.raises(InputError, match="nothing is cached"):
        scripted.save_state(tmp_path / "n")


def test_state_of_a_stranger_s_making_is_refused(plain: Engine, tmp_path: Path) -> None:
    """Well-formed files with a good checksum, whose cache is not one: no crash, an empty cache, and it works on."""
    expected = plain.generate("Once upon a time", max_tokens=4, temperature=0).tokens
    plain.save_state(tmp_path / "s")
    good = read_state(tmp_path / "s")
    dice, refused = np.random.default_rng(1), 0
    for number in range(60):
        cache = bytearray(good.cache)
        for at in dice.integers(0, len(cache) if number % 2 else 400, 3):
            cache[at] = int(dice.integers(0, 256))
        if number % 5 == 0:
            del cache[int(dice.integers(0, len(cache))) :]
        write_state(tmp_path / "o", SavedState(good.model, good.backend, good.tokens, bytes(cache)))
        try:
            plain.load_state(tmp_path / "o")
        except BackendError:
            refused += 1
            assert plain._target.tokens == []
        plain.forget()
        assert plain.generate("Once upon a time", max_tokens=4, temperature=0).tokens == expected
    assert 20 < refused < 60


@pytest.mark.parametrize(
    "turn",
    [{}, {"text": 1}, {"text": "", "tokens": ["x"], "thinking": True, "messages": [{}], "tools": []}, {"a": [1]}],
)
def test_turn_that_is_none_is_left_out(tmp_path: Path, turn: dict[str, Any]) -> None:
    """The cache is good without it."""
    engine = scripted_engine(chain_logits(64, 1))
    engine.chat([user("a")], max_tokens=3, temperature=0)
    engine.save_state(tmp_path / "s")
    good = read_state(tmp_path / "s")
    write_state(tmp_path / "o", SavedState(good.model, good.backend, good.tokens, good.cache, turn))
    assert engine.load_state(tmp_path / "o") == len(good.tokens)
    assert engine.chat([user("a")], max_tokens=3, temperature=0).stats.cached_tokens > 0


def test_loading_stops_a_generation_that_runs(tmp_path: Path) -> None:
    """Its cache is gone from under it."""
    engine = scripted_engine(chain_logits(64, 1))
    chunks = engine.stream("abc", max_tokens=9, temperature=0)
    next(chunks)
    engine.save_state(tmp_path / "s")
    engine.load_state(tmp_path / "s")
    with pytest.raises(BackendError, match="another generation"):
        list(chunks)
