"""N-grams kept across conversations: the tokens of finished prompts and answers, indexed for lookup.

They are kept in a file only if the user names one. **The file holds prompts and answers**, as token ids that anyone
with the model can decode. Only the user may read it (mode 0600). Deleting it forgets everything: no open session writes
it back. Invariant: a match never runs across two texts, and the store never holds more than ``most`` tokens; the oldest
are dropped first.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localspec.draft.ngram_file import SEPARATOR, locked, place_of, read_texts, write_texts
from localspec.errors import UsageError
from localspec.protocols import common_length

#: Fewest tokens of a match: the n-gram that is looked up.
KEY = 4
#: Most tokens of a match.
LONGEST = 32
#: Most tokens of a store, separators included: 4 MB.
MOST = 1_000_000
#: Occurrences of a key that are compared, the latest ones.
_LATEST = 256
#: Tokens in the small index that is sorted again at every :meth:`NgramStore.add`.
_FRESH = 32_768
_WINDOW = LONGEST + 1
_WORD = (1 << 64) - 1
_HASH = _WORD ^ (1 << 20) - 1
_POSITION = np.uint64(_WORD ^ _HASH)
_ODD = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F)


@dataclass(frozen=True)
class Found:
    """Continuation of the best occurrence of a suffix: the latest of those with the longest match.

    ``length``: tokens of the match (:data:`KEY` … :data:`LONGEST`). Of ``count`` occurrences of the last :data:`KEY`
    tokens (the latest 256 at most), ``agree`` continue with the same token as ``tokens``.
    """

    length: int
    count: int
    agree: int
    tokens: tuple[int, ...]


class NgramStore:
    """The most recent texts of a vocabulary, indexed by their n-grams. Not for several threads at once."""

    def __init__(self, path: Path, vocabulary: str, most: int = MOST, vocabulary_size: int = 2**31) -> None:
        """Make an empty store for ``path``, which is not read; see :meth:`open`."""
        if not LONGEST < most <= MOST:
            raise UsageError(f"a store of {most} tokens was asked for; choose {LONGEST + 1} to {MOST}.")
        self._path, self._vocabulary, self._most, self._size = path, vocabulary, most, vocabulary_size
        self._seen = b""
        self._unsaved: list[NDArray[Any]] = []
        self._last: list[int] = []
        self._flat: NDArray[Any] = np.empty(0, np.int32)
        self._sorted_to = 0
        self._rebuild(self._flat)

    @classmethod
    def open(
        cls, path: str | os.PathLike[str], vocabulary: str, *, most: int = MOST, vocabulary_size: int = 2**31
    ) -> NgramStore:
        """Open the store in the file ``path``; it is empty if there is no such file yet.

        ``vocabulary`` identifies the meaning of token ids, which lie below ``vocabulary_size``. Raises
        :class:`InputError` for a damaged file, for one of another vocabulary or kind, and for a missing folder.
        """
        store = cls(place_of(path), vocabulary, most, vocabulary_size)
        stored = read_texts(store._path, vocabulary, MOST, vocabulary_size)
        store._seen = stored.digest
        store._rebuild(stored.flat)
        return store

    def __len__(self) -> int:
        """Return the number of tokens, separators included."""
        return len(self._flat) - _WINDOW

    def add(self, tokens: Sequence[int]) -> None:
        """Add a finished text, a prompt and its answer, in memory; :meth:`save` writes it.

        If the text begins like the one before it, as the turns of a chat do, only the rest is added, with the
        :data:`LONGEST` tokens before it. Raises :class:`UsageError` for a value that is no token id.
        """
        text = self._checked(tokens)
        before, self._last = self._last, text.tolist()
        shared = common_length(before, self._last)
        fresh = text[max(0, shared - LONGEST) :]
        if shared == len(text) or len(fresh) <= KEY:
            return
        closed = np.append(fresh[1 - self._most :], np.int32(SEPARATOR))
        self._unsaved.append(closed)
        if len(self) + len(closed) > self._most or len(self._flat) + len(closed) - self._sorted_to > _FRESH:
            self._rebuild(np.concatenate([self._flat[_WINDOW:], closed]))
            return
        self._flat = np.concatenate([self._flat, closed])
        self._fresh = _sorted_keys(self._flat, self._sorted_to)
        self._windows = _windows(self._flat)

    def save(self) -> None:
        """Write the added texts to the file, after texts that other processes have added meanwhile.

        Nothing is written if nothing was added. Raises :class:`InputError` if the file is no longer an n-gram file or
        cannot be written; the added texts are then kept for the next call.
        """
        if not self._unsaved:
            return
        with locked(self._path):
            stored = read_texts(self._path, self._vocabulary, MOST, self._size)
            flat = _bounded(np.concatenate([stored.flat, *self._unsaved]), self._most)
            digest = write_texts(self._path, self._vocabulary, flat)
        if stored.digest != self._seen:
            self._rebuild(flat)
        self._seen = digest
        self._unsaved = []

    def find(self, suffix: Sequence[int], most: int) -> Found | None:
        """Return at most ``most`` tokens that followed the longest match of the end of ``suffix``; None without one.

        Occurrences at the end of a text do not count.
        """
        if len(suffix) < KEY or most < 1:
            return None
        ends = self._ends(suffix[-KEY:])
        if not len(ends):
            return None
        wanted = np.full(_WINDOW, -2, np.int32)  # the first differs from all: every match ends within the window
        near = suffix[-LONGEST:]
        wanted[-len(near) :] = near
        lengths = (self._windows[ends - _WINDOW] == wanted)[:, ::-1].argmin(axis=1)
        best = len(ends) - 1 - int(lengths[::-1].argmax())
        length = int(lengths[best])
        if length < KEY:  # another n-gram of the same hash
            return None
        followers = self._flat[ends]
        agree = int(np.count_nonzero(followers == followers[best]))
        end = int(ends[best])
        tokens: list[int] = self._flat[end : end + most].tolist()
        if SEPARATOR in tokens:
            del tokens[tokens.index(SEPARATOR) :]
        return Found(length, len(ends), agree, tuple(tokens))

    def _ends(self, key: Sequence[int]) -> NDArray[Any]:
        """Return the index after each of the latest occurrences of ``key``, in order."""
        a, b, c, d = key
        low = (a * _ODD[0] + b * _ODD[1] + c * _ODD[2] + d * _ODD[3]) & _HASH
        bounds = np.array((low, low | _WORD ^ _HASH), np.uint64)
        found = []
        for keys in (self._sorted, self._fresh):
            first, last = keys.searchsorted(bounds).tolist() if len(keys) else (0, 0)
            if last > first:
                found.append(keys[max(first, last - _LATEST) : last])
        if not found:
            return np.empty(0, np.int64)
        ends = found[0] if len(found) == 1 else np.concatenate(found)[-_LATEST:]
        positions: NDArray[Any] = (ends & _POSITION).astype(np.int64)
        return positions + KEY

    def _checked(self, tokens: Sequence[int]) -> NDArray[Any]:
        try:
            text = np.asarray(tokens, np.int64)
        except (OverflowError, TypeError, ValueError):
            text = np.array([-1])
        if text.ndim != 1 or (text.size and not 0 <= text.min() <= text.max() < self._size):
            raise UsageError(f"a text holds what is no token id; ids are 0 to {self._size - 1}.")
        return text.astype(np.int32)

    def _rebuild(self, flat: NDArray[Any]) -> None:
        """Replace all texts by ``flat`` (n,), in one sorted index."""
        before = np.full(_WINDOW, SEPARATOR, np.int32)
        self._flat = np.concatenate([before, _bounded(flat, self._most)])
        self._sorted_to = len(self._flat)
        self._sorted = _sorted_keys(self._flat, 0)
        self._fresh = self._sorted[:0]
        self._windows = _windows(self._flat)


def _bounded(flat: NDArray[Any], most: int) -> NDArray[Any]:
    """Return ``flat``; if it is longer than ``most``, its last seven eighths of ``most``, so that dropping is rare."""
    return flat if len(flat) <= most else flat[len(flat) - most * 7 // 8 :]


def _sorted_keys(flat: NDArray[Any], start: int) -> NDArray[Any]:
    """Return the sorted hashes (44 bits) and positions (20 bits) of the n-grams from ``start`` on.

    The occurrences of one n-gram are neighbours, in the order of the texts. Those at the end of a text are left out.
    Keys that contain a separator are never looked up.
    """
    count = len(flat) - start - KEY
    if count <= 0:
        return np.empty(0, np.uint64)
    keys = np.zeros(count, np.uint64)
    for i, odd in enumerate(_ODD):
        keys += flat[start + i : start + i + count].astype(np.uint64) * np.uint64(odd)
    packed = (keys & ~_POSITION) | np.arange(start, start + count, dtype=np.uint64)
    found: NDArray[Any] = np.sort(packed[flat[start + KEY :] != SEPARATOR])
    return found


def _windows(flat: NDArray[Any]) -> NDArray[Any]:
    """Return every run of :data:`_WINDOW` tokens, as a view."""
    return np.lib.stride_tricks.sliding_window_view(flat, _WINDOW)
