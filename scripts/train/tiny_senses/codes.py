"""Codes of words: short vectors that a fixed projection turns into soft tokens which the frozen target reads.

Encoders write codes; the projection of the file is the matrix that is trained here, through the target, whose weights
stay as they are. Codes begin as the words' own embeddings: a target repeats words that it has just read.
"""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import nn

from scripts.train.tiny_senses.encoders import normalise
from scripts.train.tiny_senses.pictures import WIDTH
from scripts.train.tiny_senses.scenes import PICTURE_QUESTIONS, SOUND_QUESTIONS, a_picture, a_sound
from scripts.train.tiny_senses.spelling import BLOCK, TAIL, Spelling, places_of_picture

WINDOW, CAP = 96, 30.0
#: Patches across and down of the pictures that the target is shown.
GRIDS = ((9, 8), (8, 9), (10, 7), (11, 7), (7, 11), (6, 12), (12, 6), (9, 9), (13, 10))
#: Noise of the codes in training, as a share of their size: encoders are not perfect.
NOISE = 0.25


class Codes(nn.Module):
    """A code for each word at each place; the last place of a sound is all of it but the sentence."""

    def __init__(self, target: Any, spelling: Spelling) -> None:
        super().__init__()
        embedded = target.model.embed_tokens.weight.detach()[[*spelling.ids, 0]] * target.config.hidden_size**0.5
        left, sizes, right = torch.linalg.svd(embedded, full_matrices=False)
        words = (left * sizes)[:, :WIDTH]
        scale = words.pow(2).mean().sqrt()
        self.word = nn.Parameter(words / scale)
        self.projection = nn.Parameter((right[:WIDTH] * scale).T.contiguous())
        self.picture = nn.Parameter(torch.randn(BLOCK, WIDTH) * 0.3)
        self.sound = nn.Parameter(torch.randn(TAIL + 1, WIDTH) * 0.3)

    def all(self, places: torch.Tensor) -> torch.Tensor:
        """Return every word's code at the places of a picture or a sound: (places, words, WIDTH)."""
        return normalise(self.word[None] + places[:, None])


def train_codes(target: Any, tokenizer: Any, spelling: Spelling, steps: int, batch: int, seed: int) -> Codes:
    """Train codes and projection until the target repeats every sentence, whatever the question is."""
    torch.manual_seed(seed)
    codes, rng = Codes(target, spelling), random.Random(seed)
    optimizer = torch.optim.Adam(codes.parameters(), lr=0.015, betas=(0.9, 0.95))
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.015 * min(1.0, (step + 1) / 10) * max(0.03, min(1.0, 1.6 * (1 - step / steps)))
        loss, right = _step(codes, target, tokenizer, spelling, rng, batch)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(codes.parameters(), 5.0)
        optimizer.step()
        if step % 20 == 19:
            print(f"codes step {step + 1} loss {loss.item():.3f} sentences {right:.2f}", flush=True)
    return codes


def _step(
    codes: Codes, target: Any, tokenizer: Any, spelling: Spelling, rng: random.Random, batch: int
) -> tuple[torch.Tensor, float]:
    """Return the loss of a batch, and the share of sentences that the target says word for word."""
    sound = rng.random() < 0.3
    if sound:
        sentences = [a_sound(rng).sentence for _ in range(batch)]
        before, after = rng.randint(3, 45), rng.choice([0, 0, 2, 8, 20])
        places = torch.tensor([TAIL] * before + list(range(TAIL)) + [TAIL] * after)
        around = [spelling.nothing]
        words = [around * before + spelling.words(text, TAIL) + around * after for text in sentences]
        shown = codes.all(codes.sound)[places, torch.tensor(words)]
    else:
        sentences = [a_picture(rng).sentence for _ in range(batch)]
        places = places_of_picture(*rng.choice(GRIDS))
        numbers = torch.tensor([spelling.words(text, BLOCK) for text in sentences])[:, places]
        shown = codes.all(codes.picture)[places, numbers]
    shown = (shown + NOISE * torch.randn_like(shown)) @ codes.projection.T
    question = rng.choice(SOUND_QUESTIONS if sound else PICTURE_QUESTIONS)
    answers = [tokenizer.encode(text + "<turn|>", add_special_tokens=False) for text in sentences]
    logits, wanted, row = read(target, tokenizer, shown, question, answers, sound=sound, first=rng.random() < 0.7)
    wrong = torch.zeros(batch, dtype=torch.bool)
    wrong[row[logits.argmax(-1) != wanted]] = True
    return nn.functional.cross_entropy(logits, wanted), 1 - wrong.float().mean().item()


def read(
    target: Any, tokenizer: Any, shown: torch.Tensor, question: str, answers: list[list[int]], *, sound: bool,
    first: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    """Logits of the answers' tokens behind soft tokens and a question, with the tokens and the rows of the batch.

    As llama.cpp decodes them: sliding layers see a picture in both directions, the text around it is cut apart.
    """

    def ids(text: str) -> list[int]:
        found: list[int] = tokenizer.encode(text, add_special_tokens=False)
        return found

    kind, count, (batch, soft, _) = "audio" if sound else "image", max(map(len, answers)), shown.shape
    opening, asked = ids("<bos><|turn>user\n"), "<turn|>\n<|turn>model\n"
    head = opening + ids(f"<|{kind}>") if first else opening + ids(question) + ids(f"<|{kind}>")
    tail = ids(f"<{kind}|>") + ids(question + asked if first else asked)
    begin, length = len(head), len(head) + soft + len(tail) + count
    tokens, wanted = torch.zeros(batch, length, dtype=torch.long), torch.full((batch, length), -100)
    for row, answer in enumerate(answers):
        line = head + [0] * soft + tail + answer
        tokens[row, : len(line)] = torch.tensor(line)
        wanted[row, len(line) - len(answer) - 1 : len(line) - 1] = torch.tensor(answer)
    text = target.model
    embedded = text.embed_tokens(tokens)
    layered = text.get_per_layer_inputs(tokens, embedded)
    embedded = torch.cat([embedded[:, :begin], shown, embedded[:, begin + soft :]], 1)
    at = torch.arange(length)
    distance, inside = at[:, None] - at[None], (at >= begin) & (at < begin + soft)
    both = inside[:, None] & inside[None] & (not sound)
    masks = {"full_attention": distance >= 0, "sliding_attention": ((distance >= 0) | both) & (distance < WINDOW)}
    hidden = text(
        inputs_embeds=embedded, per_layer_inputs=layered, position_ids=at[None].expand(batch, -1), use_cache=False,
        attention_mask={name: mask[None, None].expand(batch, -1, -1, -1) for name, mask in masks.items()},
    ).last_hidden_state  # fmt: skip
    chosen = wanted != -100
    logits = CAP * torch.tanh(target.lm_head(hidden[chosen]) / CAP)
    return logits, wanted[chosen], chosen.nonzero()[:, 0]
