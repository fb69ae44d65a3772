"""Shared by several tests: small engines, prefixes, rows, GGUF bytes."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import localspec
from localspec.control.base import FixedDepth
from localspec.draft.base import Draft, Drafter, Prefix
from localspec.engine import Engine
from localspec.generation import loop
from localspec.generation.loop import Pass, Rules, Step, drive
from localspec.generation.options import Request
from localspec.generation.prefill import Prefill
from localspec.generation.result import Completion
from localspec.params import SamplingParams
from localspec.protocols import Context, Rows
from localspec.sampling import Row, Sampler
from localspec.testing import Logits
from localspec.types import Progress

N_VOCAB = 24
GREEDY = SamplingParams(temperature=0.0)

#: Greedy and a few seeds, with and without truncation.
SAMPLINGS = (
    GREEDY,
    SamplingParams(temperature=0.7, seed=1),
    SamplingParams(temperature=1.3, top_k=0, top_p=1.0, min_p=0.0, seed=2),
    SamplingParams(temperature=1.0, top_k=5, top_p=0.9, min_p=0.1, seed=2**64 - 1),
)


def prefix_of(tokens: Sequence[int], params: SamplingParams = GREEDY) -> Prefix:
    return Prefix(list(tokens), Sampler(params))


def drafted(drafter: Drafter, prefix: Prefix, limit: int, ahead: Sequence[int] = ()) -> Draft:
    """The first ``limit`` guesses of a drafter."""
    return Draft.from_guesses(drafter.name, list(islice(drafter.propose(prefix, ahead), limit)))


def load_fixed(target: str | Path = "tiny", draft: str | Path = "none", **options: Any) -> Engine:
    """A pair on one thread, so that tests do not fight for the cores, that drafts at every step, however unsure."""
    engine = localspec.load(target, draft, **{"threads": 1, **options})
    engine.control = FixedDepth(4)
    return engine


def one_hot(token: int, n_vocab: int = N_VOCAB, high: float = 50.0) -> Row:
    row = np.zeros(n_vocab, np.float32)
    row[token] = high
    return row


def rows_of(tokens: Iterable[int], n_vocab: int = N_VOCAB) -> NDArray[np.float32]:
    return np.array([one_hot(token, n_vocab) for token in tokens], np.float32)


def plain_tokens(logits: Logits, prompt: Sequence[int], params: SamplingParams, count: int) -> list[int]:
    """Decoding one token at a time, with nothing of the loop in it."""
    sampler, tokens = Sampler(params), list(prompt)
    for _ in range(count):
        tokens.append(sampler.pick(logits(tuple(tokens)), tokens))
    return tokens[len(prompt) :]


def decode(
    target: Context, prefix: Prefix, rows: Rows, drafters: Sequence[Drafter], rules: Rules
) -> Generator[Step, None, None]:
    """Steps of the loop, driven on ``target``."""
    return drive(target, loop.decode(target, prefix, rows, drafters, rules))


def prefill(target: Context, prefix: Prefix, batch: int, progress: Progress | None = None) -> tuple[Rows, int]:
    """The last token's logits and the tokens reused."""

    def coroutine() -> Generator[Pass | tuple[Rows, int], Rows, None]:
        yield (yield from Prefill(batch).run(target, prefix.tokens, progress))

    return next(drive(target, coroutine()))


def continue_tokens(engine: Engine, tokens: Sequence[int], **options: Any) -> Completion:
    """The answer to a prompt of ``tokens``."""
    task = engine._tasks.from_tokens(list(tokens), Request.from_options({**options}))  # type: ignore[typeddict-item]
    *_, last = engine._run(engine._generation(task))
    assert last.completion is not None
    return last.completion


def options_of(params: SamplingParams) -> dict[str, Any]:
    """Keyword options of :meth:`Engine.generate` equal to ``params``."""
    return dict(vars(params))


# GGUF, written by hand so that a test can lie at any place.

U8, U32, I32, F32, BOOL, STRING, ARRAY, U64 = 0, 4, 5, 6, 7, 8, 9, 10
_SCALARS = {U8: "<B", U32: "<I", I32: "<i", F32: "<f", BOOL: "<?", U64: "<Q"}


def gguf_string(text: str | bytes, length: int | None = None) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(data) if length is None else length) + data


def gguf_array(kind: int, items: Sequence[Any], count: int | None = None) -> bytes:
    """Type, count and items; items of nested arrays are bytes that are already packed."""
    head = struct.pack("<IQ", kind, len(items) if count is None else count)
    if kind == ARRAY:
        return head + b"".join(items)
    if kind == STRING:
        return head + b"".join(gguf_string(item) for item in items)
    return head + b"".join(struct.pack(_SCALARS.get(kind, "<I"), item) for item in items)


def gguf_pair(key: str, kind: int, value: Any) -> bytes:
    head = gguf_string(key) + struct.pack("<I", kind)
    if kind == STRING:
        return head + gguf_string(value)
    return head + (value if isinstance(value, bytes) else struct.pack(_SCALARS[kind], value))


def gguf_tensor(name: str, shape: Sequence[int], kind: int = 0, offset: int = 0) -> bytes:
    head = gguf_string(name) + struct.pack("<I", len(shape))
    return head + b"".join(struct.pack("<Q", n) for n in shape) + struct.pack("<IQ", kind, offset)


def gguf_bytes(
    pairs: Sequence[bytes],
    tensors: Sequence[bytes] = (),
    data: int = 0,
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    n_tensors: int | None = None,
    n_pairs: int | None = None,
    alignment: int = 32,
) -> bytes:
    counts = (len(tensors) if n_tensors is None else n_tensors, len(pairs) if n_pairs is None else n_pairs)
    head = magic + struct.pack("<IQQ", version, *counts) + b"".join(pairs) + b"".join(tensors)
    return head + b"\0" * (-len(head) % alignment + data)


def gguf_file(
    path: Path,
    architecture: str,
    numbers: Mapping[str, int] | None = None,
    tensors: Sequence[bytes] = (),
    data: int = 0,
) -> Path:
    """A whole small file: ``numbers`` (or lists of them, or of bools) are keys below ``architecture``."""
    pairs = [gguf_pair("general.architecture", STRING, architecture)]
    for key, value in (numbers or {}).items():
        name = f"{architecture}.{key}"
        if isinstance(value, int):
            pairs.append(gguf_pair(name, U32, value))
        else:
            pairs.append(gguf_pair(name, ARRAY, gguf_array(BOOL if isinstance(value[0], bool) else U32, value)))
    path.write_bytes(gguf_bytes(pairs, tensors, data))
    return path


class FakeMtp:
    """An assistant's context whose hidden row holds the depth in the draft; keeps every step."""

    decode_s = 0.0

    def __init__(self, row: Callable[[int, int, NDArray[Any]], Row]) -> None:
        self._row = row
        self.steps: list[tuple[int, int, list[float]]] = []
        self.closed = False
        self._hidden = np.zeros((1, 4), np.float32)

    def step(self, token: int, position: int, hidden: NDArray[Any]) -> NDArray[np.float32]:
        self.steps.append((token, position, [float(x) for x in hidden]))
        row = self._row(token, position, hidden)
        self._hidden = np.asarray(hidden, np.float32).reshape(1, -1) + 1.0
        return row.reshape(1, -1)

    def hidden(self) -> NDArray[np.float32]:
        return self._hidden

    def close(self) -> None:
        self.closed = True


class MarkerVocabulary:
    """Bytes, a few merged pairs, and markers that are one token each; BOS on demand.

    A text has one tokenization, but a model may also generate a merged pair as its two bytes.
    """

    markers = (
        "<bos>", "<|turn>", "<turn|>", "<|channel>", "<channel|>", "<|think|>", "<think>", "</think>",
        "<|im_start|>", "<|im_end|>",
    )  # fmt: skip
    #: Those have a text of their own when they are generated, and are found in plain text, too (user-defined tokens).
    spoken = ("<|channel>", "<channel|>", "<think>", "</think>")
    pairs = ("he", "lo", "in", "th")

    def __init__(self, *, add_bos: bool = True, ends: Iterable[str] = ("<turn|>", "<|im_end|>")) -> None:
        self.add_bos, self._ends = add_bos, frozenset(ends)
        self._texts = [*self.markers, *self.pairs]
        self.n_tokens = 256 + len(self._texts)
        self.bos = self.id("<bos>")
        self._pattern = re.compile("|".join(map(re.escape, self._texts)))
        self._plain = re.compile("|".join(re.escape(text) for text in self._texts if self.piece(self.id(text))))

    def id(self, text: str) -> int:
        return 256 + self._texts.index(text)

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool = True) -> list[int]:
        found, at = [self.bos] if add_special and self.add_bos else [], 0
        for match in (self._pattern if parse_special else self._plain).finditer(text):
            found += [*text[at : match.start()].encode(), self.id(match[0])]
            at = match.end()
        return found + list(text[at:].encode())

    def text(self, token: int) -> str:
        """Markers included, as the prompt has it."""
        return chr(token) if token < 256 else self._texts[token - 256]

    def piece(self, token: int) -> bytes:
        if token < 256:
            return bytes([token])
        text = self._texts[token - 256]
        return text.encode() if text in (*self.spoken, *self.pairs) else b""

    def control_text(self, token: int) -> str | None:
        text = self.text(token)
        return text if text in self.markers else None

    def is_end(self, token: int) -> bool:
        return token >= 256 and self._texts[token - 256] in self._ends
