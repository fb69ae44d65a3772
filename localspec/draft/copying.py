"""A copy that the text makes of an earlier part of itself, followed through small changes.

Answers that quote or edit their prompt depart from it and continue a little further down: a token is replaced, a line
is indented in another way. The position in the source is kept, and so are the changes: the same change is expected
wherever the source has the same tokens again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from localspec.draft.base import Guess
from localspec.params import MAX_DRAFT

#: Tokens of a match that begin a copy.
COPY = 5
#: Tokens for which a copy is looked for after it broke off, and the distance in its source, in tokens.
WINDOW = 40
#: Tokens of a match near the break that count as the same copy.
SETTLED = 3
#: Most tokens of a change that is expected again.
LONGEST = 2
#: Probability that a replacement that was made once is made again, counted as two verdicts; 1 − AGAIN for an omission.
AGAIN = 0.7


def alike(length: int) -> float:
    """Return the probability that a match of ``length`` tokens continues as before.

    The odds of n matching tokens are n, as by the rule of succession; those of a match too short to be a copy are
    lower. (Counted in answers of a 1.5B to 64 prompts: 0.20, 0.45, 0.62, 0.72, 0.82 for 1 to 5 tokens, 0.95 for 16.)
    """
    odds = length * min(1.0, length / COPY)
    return odds / (1.0 + odds)


@dataclass
class Change:
    """A change of a copy: ``copied`` in place of ``source``, made again ``right`` times, and ``wrong`` times not."""

    source: list[int]
    copied: list[int]
    right: int = 0
    wrong: int = 0

    @property
    def confidence(self) -> float:
        """Probability that the change is made again."""
        again = AGAIN if self.copied else 1.0 - AGAIN
        return (2 * again + self.right) / (2 + self.right + self.wrong)


class Copy:
    """The copy at the end of ``text``, which others append to: call :meth:`note` after each token.

    ``_at`` is the position in the source, −1 without a copy, and ``_run`` the tokens that were copied. ``_broke_off``
    is the length of the text where the copy broke off, −1 while it holds. ``_due`` are the rest of a change.
    """

    def __init__(self, text: list[int]) -> None:
        self._text = text
        self._at, self._run = -1, 0
        self._broke_off = -1
        self._changes: dict[int, Change] = {}
        self._due: list[int] = []

    def note(self, match_length: int, match_end: int) -> None:
        """Follow a new token of the text, which ends in ``match_length`` tokens that also end at ``match_end``."""
        if self._at >= 0 and self._broke_off < 0:
            self._follow(self._text[-1])
        if self._broke_off >= 0:
            self._resume()
        if match_length >= COPY and (self._at < 0 or self._broke_off >= 0 or match_length > self._run):
            self._at, self._run, self._broke_off, self._due = match_end + 1, match_length, -1, []
        if self._broke_off >= 0 and len(self._text) - self._broke_off > WINDOW:
            self._at = self._broke_off = -1

    def guesses(self, match_length: int) -> Iterator[Guess] | None:
        """Yield the next tokens of the source; None without a copy that is as likely as a match of this length."""
        if self._at < 0:
            return None
        if self._broke_off < 0:
            return self._walk(self._at, self._run, self._due) if self._run >= match_length else None
        for n in (2, 1) if match_length < COPY else ():
            if (place := self._place(n)) >= 0:
                return self._walk(place, n + 1, ())  # the place near the break counts as a matching token
        return None

    def _follow(self, token: int) -> None:
        """Continue the copy with ``token``, or note that it broke off."""
        change = self._change(self._at)
        if change and not change.copied and token == self._source(self._at + len(change.source)):
            change.right, self._at, change = change.right + 1, self._at + len(change.source), None
        if change and self._due and token == self._due[0]:
            self._copied(change, self._due[1:])
        elif change and self._due:
            change.wrong += 1
            self._broke_off, self._due = len(self._text) - 1 - (len(change.copied) - len(self._due)), []
        elif change and token in change.copied[:1]:
            self._copied(change, change.copied[1:])
        elif token == self._source(self._at):
            self._at, self._run = self._at + 1, self._run + 1
            if change:
                change.wrong += 1
        else:
            self._broke_off = len(self._text) - 1

    def _copied(self, change: Change, due: list[int]) -> None:
        """Note a token of ``change``, of which the tokens ``due`` are still to come."""
        self._due, self._run = due, self._run + 1
        if not due:
            self._at += len(change.source)
            change.right += 1

    def _resume(self) -> None:
        """Find the position in the source again, and note the change."""
        text, since = self._text, len(self._text) - self._broke_off
        place = self._place(SETTLED) if since >= SETTLED else -1
        if place < 0:
            return
        source, copied = text[self._at : max(self._at, place - SETTLED)], text[self._broke_off : len(text) - SETTLED]
        if not source:  # an insertion is found again by the token after it
            follows = text[-SETTLED]
            source, copied = [follows], [*copied, follows]
        if max(len(source), len(copied)) <= LONGEST and place - SETTLED >= self._at:
            self._changes[source[0]] = Change(source, copied)
        self._at, self._run, self._broke_off = place, SETTLED, -1

    def _place(self, n: int) -> int:
        """Return the first position in the source near the break that follows the last ``n`` tokens of the text; −1."""
        text, ending = self._text, self._text[-n:]
        for place in range(max(n, self._at - 2), min(len(text), self._at + WINDOW)):
            if text[place - n : place] == ending:
                return place
        return -1

    def _change(self, place: int) -> Change | None:
        found = self._changes.get(self._source(place))
        return found if found and self._text[place : place + len(found.source)] == found.source else None

    def _source(self, place: int) -> int:
        return self._text[place] if place < len(self._text) else -1

    def _walk(self, place: int, length: int, due: Sequence[int]) -> Iterator[Guess]:
        """Yield at most MAX_DRAFT tokens of the source from ``place`` on, with the changes that are expected.

        Where the source reaches the end of the text, the text continues periodically.
        """
        text, drafted, due = self._text, list[int](), list(due)
        if due and (change := self._change(place)):
            place += len(change.source)
        for i in range(MAX_DRAFT):
            confidence = alike(length + i)
            if not due and (change := self._change(place)):
                if change.confidence >= 0.5:
                    due, place = list(change.copied), place + len(change.source)
                confidence = min(confidence, max(change.confidence, 1.0 - change.confidence))
            if due:
                token = due.pop(0)
            elif place < len(text) + len(drafted):
                token = text[place] if place < len(text) else drafted[place - len(text)]
                place += 1
            else:
                return  # an expected change leaves out the end of the source: nothing follows
            drafted.append(token)
            yield Guess(token, confidence)
