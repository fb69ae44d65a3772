"""Token bytes → text, in a stream: the bytes of an incomplete character are held back."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from localspec.media.cells import is_cell
from localspec.protocols import Vocabulary


class Detokenizer:
    """Text of tokens given to :meth:`add`, ended by :meth:`flush`. Bytes that are not UTF-8 become U+FFFD."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def add(self, token: int) -> str:
        """Return the text completed by ``token``."""
        return self._decoder.decode(self._vocabulary.piece(token))

    def flush(self) -> str:
        """Return the bytes of an unfinished character as U+FFFD."""
        return self._decoder.decode(b"", final=True)


def detokenize(vocabulary: Vocabulary, tokens: Sequence[int]) -> str:
    """Return the text of ``tokens``. Control tokens have none, nor have cells of pictures and sounds."""
    return b"".join(vocabulary.piece(token) for token in tokens if not is_cell(token)).decode("utf-8", errors="replace")
