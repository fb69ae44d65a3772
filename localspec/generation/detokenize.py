"""Token bytes → text while it streams: a character split across tokens waits for its rest."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from localspec.protocols import Vocabulary


class Detokenizer:
    """Feed tokens with :meth:`add`, end with :meth:`flush`. Bytes that are no UTF-8 become U+FFFD."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def add(self, token: int) -> str:
        """The text that became certain with ``token``."""
        return self._decoder.decode(self._vocabulary.piece(token))

    def flush(self) -> str:
        """What is left of an unfinished character, as U+FFFD."""
        return self._decoder.decode(b"", final=True)


def detokenize(vocabulary: Vocabulary, tokens: Sequence[int]) -> str:
    """The text of ``tokens``; control tokens have none."""
    return b"".join(vocabulary.piece(token) for token in tokens).decode("utf-8", errors="replace")
