"""A scripted backend for tests of programs built on localspec: logits are a function of the tokens, drafts a script.

Nothing is loaded and nothing is random::

    engine = scripted_engine(chain_logits(n_vocab=32, seed=1), drafters=[ScriptedDrafter(lambda tokens: [1, 2, 3])])
    engine.generate("abc", max_tokens=8, temperature=0)

The context is as strict as llama.cpp: it raises where llama.cpp would abort, and the next decode overwrites its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from localspec.chat.plain_contents import PromptVocabulary
from localspec.chat.template import ChatTemplate
from localspec.control.base import Control, FixedDepth
from localspec.draft.base import Drafter, Guess, Prefix
from localspec.engine import Engine, ModelInfo
from localspec.errors import BackendError
from localspec.generation.kept import KeptCaches
from localspec.generation.pair import Pair, Setup
from localspec.generation.scheduler import Scheduler
from localspec.params import DraftParams
from localspec.protocols import UNBOUNDED, FimTokens, Outputs, Rows, output_rows

#: Tokens so far → logits (n_vocab,) of the next.
Logits = Callable[[tuple[int, ...]], Rows]

CHAT_TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def chain_logits(n_vocab: int, seed: int, order: int = 2, scale: float = 2.0) -> Logits:
    """Normal logits of standard deviation ``scale``, drawn with ``seed`` and the last ``order`` tokens as the seed."""

    def logits(tokens: tuple[int, ...]) -> Rows:
        mix = np.random.default_rng([seed, *(abs(token) for token in tokens[-order:])])
        return mix.normal(0.0, scale, n_vocab).astype(np.float32)

    return logits


def script_logits(script: Sequence[int], n_vocab: int, start: int) -> Logits:
    """Logits that choose the tokens of ``script`` from position ``start`` on, then its last token."""

    def logits(tokens: tuple[int, ...]) -> Rows:
        row = np.zeros(n_vocab, np.float32)
        row[script[min(len(tokens) - start, len(script) - 1)]] = 50.0
        return row

    return logits


class ScriptedVocabulary:
    """Vocabulary of ``n_tokens`` tokens: text is tokenized byte by byte; ``pieces`` are the bytes of each token."""

    add_bos, bos = False, -1
    fim: FimTokens | None = None

    def __init__(self, n_tokens: int = 256, *, ends: Iterable[int] = (), pieces: Sequence[bytes] | None = None) -> None:
        self.n_tokens = n_tokens
        self._ends = frozenset(ends)
        self._pieces = list(pieces) if pieces is not None else [bytes([i % 256]) for i in range(n_tokens)]

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool = True) -> list[int]:
        return [byte % self.n_tokens for byte in text.encode("utf-8")]

    def piece(self, token: int) -> bytes:
        return b"" if token in self._ends else self._pieces[token]

    def is_end(self, token: int) -> bool:
        return token in self._ends

    def control_text(self, token: int) -> str | None:
        return None


class ScriptedContext:
    """Context of a target or draft model whose rows a function returns. ``decoded`` lists the tokens of each pass.

    ``rollback``: as for a recurrent state, so many tokens of the last pass can be taken back, others with marks only.
    """

    decode_s = 0.0

    def __init__(
        self, logits: Logits, n_vocab: int, n_ctx: int = 4096, batch: int = 512, rollback: int = UNBOUNDED
    ) -> None:
        self.rollback, self._least, self._marks = rollback, 0, {0}
        self._logits, self._n_vocab, self.n_ctx, self._batch = logits, n_vocab, n_ctx, batch
        self.tokens: list[int] = []
        self.decoded: list[int] = []
        self.closed = False
        self._rows = np.empty((0, n_vocab), np.float32)
        #: Contexts whose rows the next decode overwrites, this one among them.
        self.neighbours: Sequence[ScriptedContext] = (self,)

    def decode(self, tokens: Sequence[int], outputs: Outputs = "all") -> Rows:
        if self.closed:
            raise BackendError("the context was closed; load the model again.")
        if not 0 < len(tokens) <= self._batch or len(self.tokens) + len(tokens) > self.n_ctx + 64:
            raise BackendError(f"cannot decode {len(tokens)} tokens at {len(self.tokens)}.")
        if any(not 0 <= token < self._n_vocab for token in tokens):
            raise BackendError(f"a token of {list(tokens)} is outside the vocabulary of {self._n_vocab}.")
        for context in self.neighbours:
            context._rows[:] = np.nan  # exposes a row that was kept instead of copied
        self.decoded.append(len(tokens))
        rows = []
        for token in tokens:
            self.tokens.append(token)
            rows.append(self._logits(tuple(self.tokens)))
        self._least = len(self.tokens) - min(self.rollback, len(tokens) - 1) if self.rollback < UNBOUNDED else 0
        kept = rows[len(rows) - output_rows(outputs, len(rows)) :]
        self._rows = np.array(kept, np.float32).reshape(len(kept), self._n_vocab)
        return self._rows

    def decode_media(self, cells: Sequence[int], embeddings: Rows, *, causal: bool) -> None:
        if self.closed:
            raise BackendError("the context was closed; load the model again.")
        if len(embeddings) != len(cells) or max(cells, default=0) >= 0 or len(self.tokens) + len(cells) > self.n_ctx:
            raise BackendError(f"cannot decode {len(cells)} cells with {len(embeddings)} embeddings.")
        self.decoded.append(len(cells))
        self.tokens.extend(cells)

    def hidden(self) -> Rows:
        return self._rows[:, :4]

    def rewind(self, length: int) -> None:
        if length < len(self.tokens):
            length = self.reach(length)
            self._marks = {mark for mark in self._marks if mark <= length}
            self._least = min(self._least, length)
            del self.tokens[length:]

    def reach(self, length: int) -> int:
        return length if length >= self._least else max(mark for mark in self._marks if mark <= length)

    def mark(self, *, brief: bool = False) -> None:
        self._marks.add(len(self.tokens))

    def identity(self) -> str:
        return f"scripted {self._n_vocab} {self.n_ctx}"

    def state(self) -> bytes:
        return np.array(self.tokens, np.int64).tobytes()

    def restore(self, state: bytes, tokens: Sequence[int]) -> None:
        self.tokens.clear()
        if np.array(tokens, np.int64).tobytes() != state or len(tokens) > self.n_ctx:
            raise BackendError(f"the saved cache of {len(tokens)} tokens does not fit this model and context.")
        self.tokens.extend(tokens)
        self._marks, self._least = {0}, len(tokens) if self.rollback < UNBOUNDED else 0

    def close(self) -> None:
        self.closed = True


class ScriptedSequences:
    """Several sequences; see :class:`localspec.protocols.Sequences`. ``passes`` lists the rows of the fused passes.

    Rows of a pass of more than ``exact`` rows are not those of a single token, and differ from pass to pass.
    """

    def __init__(self, contexts: Sequence[ScriptedContext], exact: int = 64) -> None:
        self.contexts, self._exact = contexts, exact
        for context in contexts:
            context.neighbours = contexts
        self.passes: list[int] = []

    def decode(self, first: int, width: int, passes: Sequence[tuple[Sequence[int], Outputs] | None]) -> list[Rows]:
        contexts, found = self.contexts[first : first + len(passes)], list[Rows]()
        if len(contexts) < len(passes) or any(item and len(item[0]) > width for item in passes):
            raise BackendError(f"cannot decode {len(passes)} sequences from {first} on in {width} rows each.")
        self.passes.append(width * len(passes))
        for context, item in zip(contexts, passes, strict=True):
            if item is not None:
                rows = context.decode(*item).copy()
                if self.passes[-1] > self._exact:
                    rows += np.random.default_rng(self.passes).uniform(-9.0, 9.0, rows.shape).astype(np.float32)
                found.append(rows)
        members = [context for context, item in zip(contexts, passes, strict=True) if item is not None]
        for context, rows in zip(members, found, strict=True):
            context._rows = rows
        return found

    def copy(self, source: int, target: int, length: int) -> None:
        given, taken = self.contexts[source], self.contexts[target]
        taken.restore(given.state(), list(given.tokens))
        taken.rewind(length)


class ScriptedDrafter:
    """Drafter that proposes the tokens that ``script`` returns for the text; ``observed`` lists text lengths."""

    name, free = "scripted", True
    decode_s = 0.0

    def __init__(self, script: Callable[[list[int]], Sequence[int]]) -> None:
        self._script = script
        self.observed: list[int] = []
        self.closed = False

    def propose(self, prefix: Prefix, ahead: Sequence[int] = ()) -> Iterator[Guess]:
        return (Guess(token, 1.0) for token in self._script([*prefix.tokens, *ahead]))

    def lag(self, prefix: Prefix, ahead: Sequence[int] = ()) -> int:
        return 0

    def observe(self, prefix: Prefix) -> None:
        self.observed.append(len(prefix.tokens))

    def close(self) -> None:
        self.closed = True


def scripted_engine(
    logits: Logits,
    drafters: Sequence[Drafter] = (),
    *,
    vocabulary: PromptVocabulary | None = None,
    n_ctx: int = 4096,
    draft: DraftParams | None = None,
    control: Control | None = None,
    parallel: int = 1,
    exact: int = 64,
    kept: int = 0,
) -> Engine:
    """Make an engine on a :class:`ScriptedContext`, with a small chat template.

    With ``parallel`` it is one of :class:`ScriptedSequences`, whose passes may have ``exact`` rows. ``kept``:
    bytes of the caches of earlier conversations.
    """
    vocabulary = vocabulary or ScriptedVocabulary(len(logits(())))
    info = ModelInfo("scripted", Path("scripted"), "scripted", "scripted", 0, 0, n_ctx, vocabulary.n_tokens)
    template = ChatTemplate(CHAT_TEMPLATE)
    setup = Setup(draft=draft or DraftParams(), control=control or FixedDepth(), together=exact if parallel > 1 else 1)
    if parallel > 1:
        contexts = [ScriptedContext(logits, vocabulary.n_tokens, n_ctx) for _ in range(parallel)]
        sequences = ScriptedSequences(contexts, exact)
        pairs = [Pair(context, vocabulary, tuple(drafters)) for context in contexts]
        scheduler = Scheduler(sequences, pairs, KeptCaches(kept))
        return Engine(pairs[0], setup, model=info, template=template, scheduler=scheduler)
    pair = Pair(ScriptedContext(logits, vocabulary.n_tokens, n_ctx), vocabulary, tuple(drafters))
    return Engine(pair, setup, model=info, template=template, kept=KeptCaches(kept))
