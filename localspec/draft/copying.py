"""A copy that the text makes of an earlier part of itself, followed through small changes.

Answers that quote or edit their prompt break off and go on a little further down: a word is replaced, a line is
indented in another way. The place in the source is kept, and so is what was said there in place of what: the same
change is expected wherever the source says the same again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from localspec.draft.base import Guess
from localspec.params import MAX_DRAFT

#: How often a match of 1, 2, … tokens went on as before: answers of a 1.5B model to 64 prompts in eight categories.
_ALIKE = (0.2, 0.45, 0.62, 0.72, 0.82, 0.86, 0.88, 0.89, 0.9, 0.91, 0.92, 0.93, 0.935, 0.94, 0.945, 0.95)
_LONG, _SURELY = 32, 0.99
#: A copy is a match of so many tokens. Where it breaks off it is looked for in its source, so far down and for so long.
_COPY, _WINDOW, _SOON, _LATE = 5, 40, 4, 40
#: How often the text goes on there when one or two tokens match, soon after the break and later. Three settle it. All
#: count as a match that is longer by so many.
_RESUMED, _RESUMED_LATE, _SETTLED, _BONUS = (0.4, 0.8), (0.2, 0.35), 3, 6
#: A change of more tokens is not expected again. One that was seen once comes again this often, counted as two trials;
#: what was left out only where it was left out twice.
_LONGEST, _AGAIN, _LEFT_OUT_AGAIN = 2, 0.7, 0.4


def alike(length: int) -> float:
    """How often a match of ``length`` ≥ 1 tokens goes on as it did before."""
    if length <= len(_ALIKE):
        return _ALIKE[length - 1] if length else 0.0
    return _SURELY if length >= _LONG else 0.97


@dataclass
class Change:
    """Where the source has ``source`` the copy has ``said``: how often it was ``right`` since, and how often not."""

    source: list[int]
    said: list[int]
    right: int = 0
    wrong: int = 0

    @property
    def sure(self) -> float:
        again = _AGAIN if self.said else _LEFT_OUT_AGAIN
        return (2 * again + self.right) / (2 + self.right + self.wrong)


class Copy:
    """The copy at the end of ``text``, which others append to: call :meth:`note` after each token."""

    def __init__(self, text: list[int]) -> None:
        self._text = text
        self._at, self._run = -1, 0
        self._broke_off = -1
        self._changes: dict[int, Change] = {}
        self._due: list[int] = []

    def note(self, match_length: int, match_end: int) -> None:
        """The text has a token more, and ends in ``match_length`` tokens that occur earlier, up to ``match_end``."""
        if self._at >= 0 and self._broke_off < 0:
            self._follow(self._text[-1])
        if self._broke_off >= 0:
            self._resume()
        if match_length >= _COPY and (self._at < 0 or self._broke_off >= 0 or match_length > self._run):
            self._at, self._run, self._broke_off, self._due = match_end + 1, match_length, -1, []
        if self._broke_off >= 0 and len(self._text) - self._broke_off > _LATE:
            self._at = self._broke_off = -1

    def guesses(self, match_length: int) -> Iterator[Guess] | None:
        """What the source says next; None where there is no copy, or not one as sure as a match of that length."""
        if self._at < 0:
            return None
        if self._broke_off < 0:
            return self._walk(self._at, self._run, alike(self._run), self._due) if self._run >= match_length else None
        soon = len(self._text) - self._broke_off <= _SOON
        for n in (2, 1) if match_length < _COPY else ():
            if (place := self._place(n)) >= 0:
                return self._walk(place, n + _BONUS, (_RESUMED if soon else _RESUMED_LATE)[n - 1], ())
        return None

    def _follow(self, token: int) -> None:
        """The copy goes on with ``token``, or breaks off."""
        change = self._change(self._at)
        if change and not change.said and token == self._source(self._at + len(change.source)):
            change.right, self._at, change = change.right + 1, self._at + len(change.source), None
        if change and self._due and token == self._due[0]:
            self._said(change, self._due[1:])
        elif change and self._due:
            change.wrong += 1
            self._broke_off, self._due = len(self._text) - 1 - (len(change.said) - len(self._due)), []
        elif change and token in change.said[:1]:
            self._said(change, change.said[1:])
        elif token == self._source(self._at):
            self._at, self._run = self._at + 1, self._run + 1
            if change:
                change.wrong += 1
        else:
            self._broke_off = len(self._text) - 1

    def _said(self, change: Change, due: list[int]) -> None:
        """A token of ``change`` was said, and ``due`` is to come."""
        self._due, self._run = due, self._run + 1
        if not due:
            self._at += len(change.source)
            change.right += 1

    def _resume(self) -> None:
        """Find the place again, and keep what was said in place of what."""
        text, since = self._text, len(self._text) - self._broke_off
        place = self._place(_SETTLED) if since >= _SETTLED else -1
        if place < 0:
            return
        source, said = text[self._at : max(self._at, place - _SETTLED)], text[self._broke_off : len(text) - _SETTLED]
        if not source:  # put in: known by what follows
            follows = text[-_SETTLED]
            source, said = [follows], [*said, follows]
        if max(len(source), len(said)) <= _LONGEST and place - _SETTLED >= self._at:
            self._changes[source[0]] = Change(source, said)
        self._at, self._run, self._broke_off = place, _SETTLED + _BONUS, -1

    def _place(self, n: int) -> int:
        """Behind the first ``n`` tokens of the source, about where the copy broke off, that are the text's last; −1."""
        text, ending = self._text, self._text[-n:]
        for place in range(max(n, self._at - 2), min(len(text), self._at + _WINDOW)):
            if text[place - n : place] == ending:
                return place
        return -1

    def _change(self, place: int) -> Change | None:
        found = self._changes.get(self._source(place))
        return found if found and self._text[place : place + len(found.source)] == found.source else None

    def _source(self, place: int) -> int:
        return self._text[place] if place < len(self._text) else -1

    def _walk(self, place: int, length: int, sure: float, due: Sequence[int]) -> Iterator[Guess]:
        """Token after token of the source from ``place`` on, changed where a change is expected; at most MAX_DRAFT.

        Where the source reaches the end of the text, the text goes on periodically.
        """
        text, drafted, due = self._text, list[int](), list(due)
        if due and (change := self._change(place)):
            place += len(change.source)
        for i in range(MAX_DRAFT):
            if i:
                sure = alike(length + i)
            if not due and (change := self._change(place)):
                if change.sure >= 0.5:
                    due, place = list(change.said), place + len(change.source)
                sure = min(sure, max(change.sure, 1.0 - change.sure))
            if due:
                token = due.pop(0)
            elif place < len(text) + len(drafted):
                token = text[place] if place < len(text) else drafted[place - len(text)]
                place += 1
            else:
                return  # an expected change leaves out the end of the source: nothing follows
            drafted.append(token)
            yield Guess(token, sure)
