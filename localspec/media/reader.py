"""Pictures and sounds → entries of a prompt's tokens, and the embeddings of their cells when they are decoded."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from threading import RLock

from localspec.errors import InputError
from localspec.media.cells import make_cells
from localspec.media.pictures import decode_picture
from localspec.media.sounds import checked_sound
from localspec.media.source import Media
from localspec.protocols import Piece, Projector, Rows

#: Most bytes of embeddings that are kept, for prompts that repeat a picture whose cells are gone.
_KEPT_BYTES = 64 * 2**20
#: Pictures whose pixels are kept until they are encoded, and media whose layout is kept.
_KEPT_PIXELS, _KEPT_LAYOUTS = 2, 256


@dataclass(frozen=True)
class Layout:
    """Layout of one piece: its ``tokens`` of text, or the number of its ``cells``."""

    tokens: tuple[int, ...]
    cells: int
    causal: bool


@dataclass(frozen=True)
class MediaTokens:
    """Tokens of the media of a prompt: entries for each by its id, and pieces by their first cells."""

    entries: Mapping[str, Sequence[int]]
    pieces: Mapping[int, Piece]


class MediaReader:
    """Reads media with the projector that ``load`` returns: loaded for the first one, freed by :meth:`free`.

    Any thread may call it. ``identity`` names the projector and its settings; ``kinds`` are those that it reads:
    ``picture``, ``sound``. ``most``: cells that fit one pass; pieces that must be decoded in one may not have more.
    """

    def __init__(self, load: Callable[[], Projector], identity: str, kinds: Iterable[str], most: int) -> None:
        self._load, self._identity, self.kinds, self._most = load, identity, frozenset(kinds), most
        self._projector: Projector | None = None
        self._lock = RLock()
        self._layouts: OrderedDict[str, Sequence[Layout]] = OrderedDict()
        self._pieces: OrderedDict[str, Sequence[Piece]] = OrderedDict()
        self._embeddings: OrderedDict[str, Rows] = OrderedDict()
        #: Pieces that were encoded since the engine was loaded.
        self.encoded = 0

    @property
    def loaded(self) -> bool:
        """True while the projector is in memory."""
        return self._projector is not None

    def read(self, media: Iterable[Media]) -> MediaTokens:
        """Return what ``media`` become. Raises :class:`InputError`, or an error of the projector's file."""
        entries: dict[str, Sequence[int]] = {}
        pieces: dict[int, Piece] = {}
        for one in media:
            found: list[int] = []
            for index, layout in enumerate(self._layout(one)):
                cells = make_cells(self._key(one, index), layout.cells)
                found += [*layout.tokens, *cells]
                if cells:
                    pieces[cells[0]] = _Span(self, one, index, layout)
            entries[one.id] = found
        return MediaTokens(entries, pieces)

    def encode(self, media: Media, index: int) -> Rows:
        """Return the embeddings of a piece, shape (cells, n_embd)."""
        key = self._key(media, index)
        with self._lock:
            found = self._embeddings.pop(key, None)
            if found is None:
                pieces = self._pieces.get(media.id) or self._divide(media)
                found = pieces[index].encode()
                self.encoded += 1
                if all(not piece.cells for piece in pieces[index + 1 :]):
                    self._pieces.pop(media.id, None)
            self._embeddings[key] = found
            while len(self._embeddings) > 1 and sum(rows.nbytes for rows in self._embeddings.values()) > _KEPT_BYTES:
                self._embeddings.popitem(last=False)
            return found

    def free(self) -> None:
        """Free the projector and what it made. The next picture or sound loads it again."""
        with self._lock:
            for kept in (self._pieces, self._embeddings):
                kept.clear()
            if self._projector is not None:
                self._projector.close()
            self._projector = None

    def _layout(self, media: Media) -> Sequence[Layout]:
        with self._lock:
            found = self._layouts.pop(media.id, None)
            if found is None:
                pieces = self._divide(media)
                found = [Layout(piece.tokens, piece.cells, piece.causal) for piece in pieces]
                self._pieces[media.id] = pieces
                while len(self._pieces) > _KEPT_PIXELS:
                    self._pieces.popitem(last=False)
            self._layouts[media.id] = found
            while len(self._layouts) > _KEPT_LAYOUTS:
                self._layouts.popitem(last=False)
            return found

    def _divide(self, media: Media) -> Sequence[Piece]:
        """Let the projector divide ``media``, decoded and checked."""
        if media.kind not in self.kinds:
            raise InputError(f"this model reads no {media.kind}s, and {media.name} is one; leave it out.")
        data = checked_sound(media) if media.kind == "sound" else decode_picture(media)
        if self._projector is None:
            self._projector = self._load()
        projector = self._projector
        found = projector.sound(data) if isinstance(data, bytes) else projector.picture(data)
        widest = max((piece.cells for piece in found if not piece.causal), default=0)
        if widest > self._most:
            raise InputError(
                f"{media.name} takes {widest} tokens, and {self._most} fit one pass; "
                "make it smaller, or set a lower --image-tokens."
            )
        return found

    def _key(self, media: Media, index: int) -> str:
        return f"{self._identity} {media.kind} {media.id} {index}"


class _Span:
    """A piece of ``media`` that is divided again if it is no longer kept when it is encoded."""

    def __init__(self, reader: MediaReader, media: Media, index: int, layout: Layout) -> None:
        self._reader, self._media, self._index = reader, media, index
        self.tokens, self.cells, self.causal = layout.tokens, layout.cells, layout.causal

    def encode(self) -> Rows:
        return self._reader.encode(self._media, self._index)
