"""Take tool calls out of the text of an answer while it streams.

Text that is not a call stays in the answer, and so does a bare JSON object that other text follows. The result does not
depend on the pieces in which the text arrives.
"""

from __future__ import annotations

from collections.abc import Collection

from localspec.chat.call_parts import ArgumentsWriter, CallPart
from localspec.chat.call_syntax import CallForm, CallSyntax, ParsedCall
from localspec.chat.call_values import IncompleteError, MalformedError
from localspec.chat.loose_calls import tool_name


class ToolCallParser:
    """Parser of one answer: pieces of text in, the text without calls out; the calls are in ``calls``.

    ``names`` are those of the tools. ``begun``: the answer continues a text. Without ``several`` it ends after a call.
    ``malformed`` is True once an opening was not followed by a call. ``certain``: the answer can only be calls.
    """

    def __init__(
        self,
        syntax: CallSyntax,
        names: Collection[str],
        *,
        begun: bool = False,
        several: bool = True,
        certain: bool = False,
    ) -> None:
        self._certain = certain
        #: Parts of calls that were not taken yet, the number of calls that have parts, and the writer of the last one.
        self._parts, self._with_parts = list[CallPart](), 0
        self._writer: ArgumentsWriter | None = None
        #: Index in ``_held`` up to which the writer has read.
        self._written = 0
        self.syntax, self._names, self._several = syntax, frozenset(names), several
        self.calls: list[ParsedCall] = []
        self.malformed = False
        #: Text that is or may be part of a call.
        self._held = ""
        #: Form of the call that has begun, and index in ``_held`` at which its form reads.
        self._form: CallForm | None = None
        self._body = 0
        #: Text of the last calls where they are bare JSON, and index of the first: text behind them makes them text.
        self._bare, self._first_bare = "", 0
        #: Length of ``_held`` at the last search for the call's end.
        self._searched = 0
        self._at_start = not begun

    @property
    def in_call(self) -> bool:
        """True if a call has begun and not ended."""
        return self._form is not None

    @property
    def full(self) -> bool:
        """True if the answer may have no more calls."""
        return bool(self.calls) and not self._several

    def add(self, text: str) -> str:
        """Append ``text``; returns the text that is certainly no part of a call."""
        self._held += text
        shown = self._scan(complete=False, last=False)
        self._write()
        return shown

    def take_parts(self) -> tuple[CallPart, ...]:
        """Parts of calls since the last time, of those that can only be calls: before they are complete."""
        found, self._parts = tuple(self._parts), []
        return found

    def _write(self) -> None:
        """Add the part of the call that has begun which is certain."""
        if self._form is None or not (self._form.unambiguous or self._certain):
            return
        if self._writer is None:
            found = self._form.begun(self._held[self._body :])
            if found is None or (name := tool_name(found[0], self._names)) not in self._names:
                return
            self._writer, self._written = ArgumentsWriter(), self._body + found[1]
            self._add_part(name, "")
        written = self._writer.add(self._held[self._written :])
        self._written = len(self._held)
        if written:
            self._parts.append(CallPart(self._with_parts - 1, None, written))

    def _add_part(self, name: str, arguments: str) -> None:
        self._parts.append(CallPart(self._with_parts, name, arguments))
        self._with_parts += 1

    def _write_end(self, call: ParsedCall) -> None:
        """Add what is left of a call that is complete."""
        if self._writer is None:
            self._add_part(call.name, call.arguments)
        elif call.arguments.startswith(self._writer.written):
            self._parts.append(CallPart(self._with_parts - 1, None, call.arguments[len(self._writer.written) :]))
        self._writer = None

    def flush(self, *, complete: bool) -> str:
        """Return the rest of the text. ``complete``: the model ended the answer, so a closing marker may be missing."""
        shown = self._scan(complete=complete, last=True)
        rest, self._held = self._held, ""
        if self._bare:
            rest = self._as_text(rest) if rest.strip("; \t\r\n") else ""
            self._bare = ""
        return shown if self.calls and not rest.strip() else shown + rest

    def _scan(self, *, complete: bool, last: bool) -> str:
        shown = ""
        while not self.full:
            if self._form is None:
                shown += self._as_text(self._release_text())
            if self._form is None or not (last or self._end_arrived(self._form)):
                return shown
            try:
                call = self._form.read(self._held[self._body :], self._names, complete)
            except IncompleteError:
                if not last:
                    return shown
                shown += self._as_text(self._reject(malformed=self._form.unambiguous))
            except MalformedError as error:
                shown += self._as_text(self._reject(malformed=error.is_call))
            else:
                self._accept(call, self._form)
        return shown

    def _accept(self, call: ParsedCall, form: CallForm) -> None:
        end = self._body + call.end
        if form.unambiguous:
            self._bare = ""
        else:
            self._first_bare = self._first_bare if self._bare else len(self.calls)
            self._bare += self._held[:end]
        if form.unambiguous or self._certain:
            self._write_end(call)
        self.calls.append(call)
        self._held, self._form = self._held[end:], None

    def _as_text(self, text: str) -> str:
        """Return ``text``, which is no call, with the bare JSON before it, which is none either then."""
        if not self._bare or not text.strip():
            return text
        text, self._bare = self._bare + text, ""
        del self.calls[self._first_bare :]
        return text

    def _release_text(self) -> str:
        """Return the held text up to a possible call, without the blanks before it."""
        found = self.syntax.find(self._held, self._at_start)
        kept = self.syntax.partial_opening(self._held, self._at_start) if found is None else len(self._held) - found[0]
        shown = self._held[: len(self._held) - kept].rstrip()
        self._held = self._held[len(shown) :]
        self._at_start = self._at_start and not shown
        if found is not None:
            self._body, self._form, self._searched = found[1] - len(shown), found[2], 0
        return shown

    def _end_arrived(self, form: CallForm) -> bool:
        """True if an end of the form is in the new text. A long call is then not read again for every token."""
        start = max(self._searched - max(map(len, form.ends)), self._body)
        self._searched = len(self._held)
        return any(self._held.find(end, start) >= 0 for end in form.ends)

    def _reject(self, *, malformed: bool) -> str:
        """Return the opening as text; another call may begin after it."""
        shown = self._held[: self._body] or self._held[:1]
        self._held, self._form, self._at_start, self._writer = self._held[len(shown) :], None, False, None
        self.malformed = self.malformed or malformed
        return shown
