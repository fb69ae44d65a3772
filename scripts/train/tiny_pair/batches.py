"""Rows of packed documents: token ids, positions, loss weights and attention masks. Documents never see each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerFast

from scripts.train.tiny_pair.model import SLIDING_WINDOW

PROMPT_WEIGHT = 0.05
DIGIT_WEIGHT = 4.0


@dataclass(frozen=True)
class Rows:
    """All (rows, length): tokens, positions and documents int64; weights float32, of predicting a token."""

    tokens: torch.Tensor
    positions: torch.Tensor
    documents: torch.Tensor
    weights: torch.Tensor


def encode(tokenizer: PreTrainedTokenizerFast, text: str) -> tuple[list[int], list[float]]:
    """Token ids of a document, and their weights: 1 for what the model says, `PROMPT_WEIGHT` for what it is told."""
    ids = tokenizer.encode(text, add_special_tokens=False)
    turn, end, model = (tokenizer.convert_tokens_to_ids(t) for t in ("<|turn>", "<turn|>", "model"))
    if turn not in ids:
        return ids, [1.0] * len(ids)
    digits = set(tokenizer.convert_tokens_to_ids(list("0123456789")))
    weights, speaking = [], False
    for at, token in enumerate(ids):
        weights.append((DIGIT_WEIGHT if token in digits else 1.0) if speaking else PROMPT_WEIGHT)
        if token == turn:
            speaking = False
        elif at and ids[at - 1] == turn and token == model:
            speaking = True
        elif token == end:
            speaking = False
    return ids, weights


def pack(tokenizer: PreTrainedTokenizerFast, documents: Iterator[str], rows: int, length: int) -> Rows:
    return pack_encoded((encode(tokenizer, text) for text in documents), rows, length)


def pack_encoded(documents: Iterator[tuple[list[int], list[float]]], rows: int, length: int) -> Rows:
    """Fill ``rows`` rows; the last document of a row is cut where the row ends."""
    tokens = torch.zeros(rows, length, dtype=torch.long)
    positions, owner = torch.zeros_like(tokens), torch.full_like(tokens, -1)
    weights = torch.zeros(rows, length)
    for row in range(rows):
        filled, number = 0, 0
        while filled < length:
            ids, heavy = next(documents)
            take = min(len(ids), length - filled)
            span = slice(filled, filled + take)
            tokens[row, span] = torch.tensor(ids[:take])
            weights[row, span] = torch.tensor(heavy[:take])
            weights[row, filled] = 0.0
            positions[row, span] = torch.arange(take)
            owner[row, span] = number
            filled, number = filled + take, number + 1
    return Rows(tokens, positions, owner, weights)


def causal_masks(rows: Rows) -> dict[str, torch.Tensor]:
    """Masks (rows, 1, length, length), True where a query sees a key, as the target uses them."""
    return _masks(rows, query_shift=0)


def draft_masks(rows: Rows) -> dict[str, torch.Tensor]:
    """The same for the assistant: the query after token t stands at position t + 1 but sees keys up to t only."""
    return _masks(rows, query_shift=1)


def _masks(rows: Rows, query_shift: int) -> dict[str, torch.Tensor]:
    distance = rows.positions[:, :, None] - rows.positions[:, None, :]
    seen = (rows.documents[:, :, None] == rows.documents[:, None, :]) & (distance >= 0)
    near = seen & (distance + query_shift < SLIDING_WINDOW)
    return {"full_attention": seen[:, None], "sliding_attention": near[:, None]}
