"""Laws of the n-grams kept across conversations: what is found in them, and what their file survives."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localspec.draft import ngram_file, ngram_store
from localspec.draft.history import HistoryDrafter
from localspec.draft.ngram_store import KEY, LONGEST, Found, NgramStore
from localspec.engine import Engine, ModelInfo
from localspec.errors import InputError, UsageError
from localspec.generation.pair import Pair
from localspec.testing import ScriptedContext, ScriptedVocabulary, chain_logits
from tests.helpers.support import N_VOCAB

texts = st.lists(st.lists(st.integers(0, 2), min_size=5, max_size=60), max_size=6)


def store_of(*found: list[int], most: int = 1000, into: NgramStore | None = None) -> NgramStore:
    """Every text taken in whole, whatever the one before it was."""
    store = NgramStore(Path("nowhere"), "v", most) if into is None else into
    for text in found:
        store._last = []
        store.add(text)
    return store


def by_brute_force(found: list[list[int]], suffix: list[int], most: int) -> Found | None:
    """Every occurrence in every text, one after the other."""
    places = [(text, end) for text in found for end in range(KEY, len(text)) if text[end - KEY : end] == suffix[-KEY:]]
    if len(suffix) < KEY or not places:
        return None
    lengths = []
    for text, end in places:
        length = 0
        while length < min(LONGEST, end, len(suffix)) and text[end - 1 - length] == suffix[-1 - length]:
            length += 1
        lengths.append(length)
    best = max(range(len(places)), key=lambda i: (lengths[i], i))
    text, end = places[best]
    agree = sum(other[at] == text[end] for other, at in places)
    return Found(lengths[best], len(places), agree, tuple(text[end : end + most]))


@given(texts, texts, st.lists(st.integers(0, 2), max_size=50), st.integers(1, 20))
@settings(max_examples=250)
def test_find_is_the_longest_then_the_latest(
    old: list[list[int]], new: list[list[int]], suffix: list[int], most: int
) -> None:
    """Length, count, agreement and continuation are what a walk over all texts finds, sorted long ago or just now."""
    store = store_of(*old)
    store._rebuild(store._flat[LONGEST + 1 :])
    assert store_of(*new, into=store).find(suffix, most) == by_brute_force([*old, *new], suffix, most)


def test_no_match_runs_across_texts() -> None:
    """Neither backwards into the text before, nor forwards into the next."""
    store = store_of([9, 9, 1, 2, 3, 4, 5], [6, 7, 8, 9, 1, 2])
    assert store.find([1, 2, 3, 4], 8) == Found(4, 1, 1, (5,))
    assert store.find([4, 5, 6, 7], 8) is None
    assert store.find([5, 6, 7, 8, 9], 8) == Found(4, 1, 1, (1, 2))
    assert store.find([7, 8, 9, 1, 2], 8) is None


def test_match_is_capped() -> None:
    """A long quotation counts as 32 tokens."""
    text = list(range(100))
    assert store_of(text).find(text[:60], 3) == Found(LONGEST, 1, 1, (60, 61, 62))


def test_only_the_latest_occurrences_count() -> None:
    """A key that is everywhere costs no more than one that is rare: 256 of them are looked at."""
    early, late = [1, 2, 3, 4, 5], [1, 2, 3, 4, 6]
    assert store_of(*[early] * 300, *[late] * 200, most=10_000).find([1, 2, 3, 4], 1) == Found(4, 256, 200, (6,))


def test_another_ngram_of_the_same_hash_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens are compared, not hashes alone."""
    monkeypatch.setattr(ngram_store, "_ODD", (1, 1, 1, 1))
    store = store_of([1 << 20, 0, 0, 0, 5])
    assert store.find([1 << 20, 0, 0, 0], 1) is not None
    assert store.find([0, 0, 0, 1 << 20], 1) is None


def test_turns_of_a_chat_are_held_once() -> None:
    """A prompt that repeats the conversation so far adds only what is new, with enough before it to match far back."""
    store = NgramStore(Path("nowhere"), "v")
    chat = list(range(500))
    for turn in range(50, 501, 50):
        store.add(chat[:turn])
    assert len(store) <= 500 + 10 * (LONGEST + 1)
    for turn in range(50, 500, 50):
        assert store.find(chat[: turn + 1], 2) == Found(LONGEST, 1, 1, (turn + 1, turn + 2))
    before = len(store)
    store.add(chat)
    assert len(store) == before


@given(st.lists(st.integers(5, 90), max_size=30))
def test_store_is_bounded_and_forgets_the_oldest(sizes: list[int]) -> None:
    """Never more than its most, and what it holds is the end of all that was added."""
    store, everything, at = NgramStore(Path("nowhere"), "v", 100), [], 0
    for size in sizes:
        text = list(range(at, at + size))
        at += size
        store.add(text)
        everything += [*text, -1]
        held = store._flat[LONGEST + 1 :].tolist()
        assert len(store) == len(held) <= 100
        assert held == everything[len(everything) - len(held) :]
        assert len(held) >= min(len(everything), 87)
        assert store.find(text[-6:-1], 1) == Found(min(size - 1, 5), 1, 1, (text[-1],))


def test_a_text_longer_than_the_store_leaves_its_end() -> None:
    """The end is found."""
    store = store_of(list(range(500)), most=100)
    assert len(store) <= 100
    assert store.find([490, 491, 492, 493], 2) == Found(4, 1, 1, (494, 495))


@pytest.mark.parametrize("bad", [[1, 2, -1, 4, 5], [1, 2, 3, 2**31, 5], [1, 2, 3, 2**80, 5], [[1, 2]], ["a"]])
def test_what_is_no_token_is_refused(bad: list[int]) -> None:
    """Before anything is taken in."""
    store = NgramStore(Path("nowhere"), "v")
    with pytest.raises(UsageError, match="no token id"):
        store.add(bad)
    assert len(store) == 0


def test_nothing_is_written_unless_something_was_added(tmp_path: Path) -> None:
    """Opening and saving an empty store leaves no file, and no lock."""
    store = NgramStore.open(tmp_path / "n", "v")
    store.save()
    store.add([1, 2, 3])  # shorter than an n-gram and what follows it
    store.save()
    assert list(tmp_path.iterdir()) == []


@given(texts)
@settings(max_examples=30)
def test_what_is_saved_is_opened(tmp_path_factory: pytest.TempPathFactory, found: list[list[int]]) -> None:
    """To the token, and only its owner can read it."""
    path = tmp_path_factory.mktemp("store") / "n"
    store = NgramStore.open(path, "v")
    for text in found:
        store.add(text)
    store.save()
    assert NgramStore.open(path, "v")._flat.tolist() == store._flat.tolist()
    assert not found or stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 or os.name == "nt"


def test_a_session_takes_over_what_another_saved(tmp_path: Path) -> None:
    """Two sessions at once lose nothing, and each finds the texts of both."""
    one, other = (NgramStore.open(tmp_path / "n", "v") for _ in range(2))
    one.add([1, 2, 3, 4, 5])
    other.add([6, 7, 8, 9, 10])
    one.save()
    other.save()
    one.add([11, 12, 13, 14, 15])
    one.save()
    for store in (one, NgramStore.open(tmp_path / "n", "v")):
        assert all(store.find([at, at + 1, at + 2, at + 3], 1) for at in (1, 6, 11))
    assert other.find([1, 2, 3, 4], 1) == Found(4, 1, 1, (5,))


def test_deleting_the_file_forgets_for_open_sessions(tmp_path: Path) -> None:
    """Earlier texts are not written back."""
    store = NgramStore.open(tmp_path / "n", "v")
    store.add([1, 2, 3, 4, 5])
    store.save()
    (tmp_path / "n").unlink()
    store.add([6, 7, 8, 9, 10])
    store.save()
    assert store.find([1, 2, 3, 4], 1) is None
    assert len(NgramStore.open(tmp_path / "n", "v")) == 6


def test_a_file_of_another_vocabulary_is_refused_and_kept(tmp_path: Path) -> None:
    """When it is opened, and when it took the place of ours."""
    other = NgramStore.open(tmp_path / "n", "other")
    store = NgramStore.open(tmp_path / "n", "v")
    for each in (other, store):
        each.add([1, 2, 3, 4, 5])
    other.save()
    before = (tmp_path / "n").read_bytes()
    for refused in (lambda: NgramStore.open(tmp_path / "n", "v"), store.save):
        with pytest.raises(InputError, match="another model's vocabulary"):
            refused()
    assert (tmp_path / "n").read_bytes() == before


def saved(path: Path) -> bytes:
    store = NgramStore.open(path, "v")
    store.add(list(range(50)))
    store.save()
    return path.read_bytes()


def test_every_damage_is_one_sentence_and_kept(tmp_path: Path) -> None:
    """Any byte changed, any length cut, and files of other kinds: refused, never overwritten."""
    whole = saved(tmp_path / "n")
    changed = [whole[:i] + bytes((whole[i] ^ 64,)) + whole[i + 1 :] for i in range(len(whole))]
    cut = [whole[:i] for i in range(len(whole))]
    for bad in (*changed, *cut, whole + b"\0", b"my diary\n" * 9):
        (tmp_path / "n").write_bytes(bad)
        store = NgramStore(tmp_path / "n", "v")
        store.add([1, 2, 3, 4, 5])
        for refused in (lambda: NgramStore.open(tmp_path / "n", "v"), store.save):
            with pytest.raises(InputError, match=r"is damaged, or no n-gram file|another model's"):
                refused()
        assert (tmp_path / "n").read_bytes() == bad


def test_ids_beyond_the_vocabulary_are_damage(tmp_path: Path) -> None:
    """A forged file cannot hand llama.cpp an id that it would abort on."""
    saved(tmp_path / "n")
    assert NgramStore.open(tmp_path / "n", "v", vocabulary_size=50)
    with pytest.raises(InputError, match="damaged"):
        NgramStore.open(tmp_path / "n", "v", vocabulary_size=49)


@pytest.mark.parametrize("name", ["no/such/folder", "a\0b", ".", "n" * 300])
def test_names_that_cannot_be_files_are_refused(tmp_path: Path, name: str) -> None:
    """In one sentence, before an answer begins."""
    with pytest.raises(InputError):
        NgramStore.open(f"{tmp_path}/{name}", "v")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX")
def test_a_pipe_is_refused(tmp_path: Path) -> None:
    """It would be waited for without end."""
    os.mkfifo(tmp_path / "n")
    with pytest.raises(InputError, match="no file"):
        NgramStore.open(tmp_path / "n", "v")


def test_a_save_that_fails_keeps_what_was_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk today loses nothing if there is room tomorrow, and leaves no scrap behind."""
    store = NgramStore.open(tmp_path / "n", "v")
    store.add([1, 2, 3, 4, 5])

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(ngram_file.os, "replace", full)
        with pytest.raises(InputError, match="No space left"):
            store.save()
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".tmp"]
    store.save()
    assert len(NgramStore.open(tmp_path / "n", "v")) == 6


def test_a_lock_held_by_another_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not an endless wait."""
    monkeypatch.setattr(ngram_file, "_LOCK_S", 0.05)
    store = NgramStore.open(tmp_path / "n", "v")
    store.add([1, 2, 3, 4, 5])
    with ngram_file.locked(tmp_path / "n"), pytest.raises(InputError, match="locked"):
        store.save()


WRITER = """
import sys
from localspec.draft.ngram_store import NgramStore
path, start = sys.argv[1], int(sys.argv[2])
store = NgramStore.open(path, "v")
for i in range(start, start + 200, 10):
    store.add(list(range(i, i + 10)))
    store.save()
"""


def writer(path: Path, start: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(start)])


def test_processes_at_once_lose_nothing(tmp_path: Path) -> None:
    """Every finished text of each is in the file at the end."""
    running = [writer(tmp_path / "n", 1000 * i) for i in range(3)]
    assert [process.wait() for process in running] == [0, 0, 0]
    store = NgramStore.open(tmp_path / "n", "v")
    wanted = [1000 * i + at for i in range(3) for at in range(0, 200, 10)]
    assert all(store.find(range(at, at + 9), 1) == Found(9, 1, 1, (at + 9,)) for at in wanted)
    assert len(store) == 11 * len(wanted)


def test_a_kill_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    """The one before or the one after, and no lock that stays."""
    saved(tmp_path / "n")
    for wait in (0.0, 0.004, 0.009, 0.02):
        process = writer(tmp_path / "n", 1000)
        size = (tmp_path / "n").stat().st_size
        while process.poll() is None and (tmp_path / "n").stat().st_size == size:
            time.sleep(0.002)
        time.sleep(wait)
        process.kill()
        process.wait()
        store = NgramStore.open(tmp_path / "n", "v")
        assert store.find([0, 1, 2, 3], 1) == Found(4, 1, 1, (4,))
        store.add([7, 7, 7, 7, 7, int(wait * 1000)])
        store.save()


def test_a_store_that_cannot_be_written_costs_no_answer(tmp_path: Path) -> None:
    """The answer is complete; a notice names what was not saved."""
    (tmp_path / "folder").mkdir()
    drafter = HistoryDrafter(NgramStore.open(tmp_path / "folder" / "n", "v"))
    target = chain_logits(N_VOCAB, 1)
    context = ScriptedContext(target, N_VOCAB)
    info = ModelInfo("scripted", Path("scripted"), "scripted", "scripted", 0, 0, 4096, N_VOCAB)
    with Engine(Pair(context, ScriptedVocabulary(N_VOCAB), (drafter,), drafter), model=info) as engine:
        (tmp_path / "folder").rmdir()
        (tmp_path / "folder").touch()
        done = engine.generate("abcdefgh", max_tokens=9, temperature=0)
    assert len(done.tokens) == 9
    assert done.notice is not None
    assert "not kept" in done.notice
