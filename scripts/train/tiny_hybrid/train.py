"""Training of the hybrid target on documents, and of its head on the target's hidden rows; both can be resumed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch.nn import functional
from transformers import DynamicCache, PreTrainedTokenizerFast, Qwen3_5ForCausalLM

from scripts.train.tiny_hybrid.model import Head, build_target
from scripts.train.tiny_pair.assistant import Encoded, ahead, answer, chat_prompt, transcripts
from scripts.train.tiny_pair.batches import encode
from scripts.train.tiny_pair.corpus import documents, held_out_prompts
from scripts.train.tiny_pair.optimizer import optimizers, rate
from scripts.train.tiny_pair.train import SAVE_EVERY, restore_state, save_state, update

DRAFT_STEPS = 4
LONGEST, TOKENS = 384, 3072


def rows_of(texts: Sequence[Encoded]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and weights (rows, length), a document a row: a recurrent state would carry one into the next."""
    length = max(len(ids) for ids, _ in texts)
    tokens, weights = torch.zeros(len(texts), length, dtype=torch.long), torch.zeros(len(texts), length)
    for row, (ids, heavy) in enumerate(texts):
        tokens[row, : len(ids)], weights[row, : len(ids)] = torch.tensor(ids), torch.tensor(heavy)
    weights[:, 0] = 0.0
    return tokens, weights


def choose(texts: Sequence[Encoded], rng: random.Random) -> list[Encoded]:
    """Documents of like length that fill a batch."""
    ordered = sorted(((ids[:LONGEST], heavy[:LONGEST]) for ids, heavy in texts), key=lambda text: len(text[0]))
    last = rng.randrange(len(ordered) // 4, len(ordered))
    count = max(1, TOKENS // len(ordered[last][0]))
    return ordered[max(0, last + 1 - count) : last + 1]


def corpus_batch(tokenizer: PreTrainedTokenizerFast, seed: int, for_test: bool = False) -> list[Encoded]:
    drawn = documents(seed, for_test=for_test)
    return choose([encode(tokenizer, next(drawn)) for _ in range(64)], random.Random(seed))


def target_loss(model: Qwen3_5ForCausalLM, texts: Sequence[Encoded]) -> torch.Tensor:
    """Mean weighted cross-entropy of each token given those before it."""
    tokens, weights = rows_of(texts)
    logits = model(input_ids=tokens, use_cache=False).logits[:, :-1]
    losses = functional.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none")
    return (losses * weights[:, 1:]).sum() / weights[:, 1:].sum()


def train_target(
    tokenizer: PreTrainedTokenizerFast, folder: Path, steps: int, minutes: float, seed: int
) -> Qwen3_5ForCausalLM:
    """Train for ``steps`` steps or ``minutes`` minutes, whichever ends first; continues from ``folder`` if it can."""
    torch.manual_seed(seed)
    model = build_target()
    held_out = [corpus_batch(tokenizer, seed + 12345 + i, for_test=True) for i in range(2)]

    def loss(step: int) -> torch.Tensor:
        return target_loss(model, corpus_batch(tokenizer, seed * 1_000_003 + step))

    def judge() -> str:
        return f"held out {sum(target_loss(model, one).item() for one in held_out) / 2:.3f}"

    _run(model, folder / "target.pt", steps, minutes, loss, judge)
    return model


def _run(
    model: torch.nn.Module, path: Path, steps: int, minutes: float, loss: Callable[[int], torch.Tensor],
    judge: Callable[[], str],
) -> None:  # fmt: skip
    opts = optimizers(model)
    step, spent = restore_state(path, model, opts)
    begun, average = time.monotonic() - spent, 0.0
    while True:
        spent = time.monotonic() - begun
        progress = max(step / steps, spent / 60 / minutes)
        if step % SAVE_EVERY == 0 or progress >= 1:
            save_state(path, model, opts, step, spent)
            with torch.no_grad():
                found = judge()
            print(f"{path.stem} step {step} {spent:.0f} s train {average:.3f} {found}", flush=True)
        if progress >= 1:
            return
        value = loss(step)
        value.backward()
        update(opts, rate(progress))
        average = value.item() if not average else 0.95 * average + 0.05 * value.item()
        step += 1


def draft_logits(
    target: Qwen3_5ForCausalLM, head: Head, tokens: torch.Tensor, hidden: torch.Tensor
) -> list[torch.Tensor]:
    """Logits (rows, length, vocabulary) of four chained guesses from each position, fed with the true tokens.

    The guess of step s from position p stands at p + s − 1 and predicts the token at p + s. It sees the cells of the
    text up to p, made of the target's rows, and those of the guesses before it, made of the head's own.
    """
    length = tokens.shape[1]
    embedded = target.model.embed_tokens(tokens)
    hidden = functional.pad(hidden[:, :-1], (0, 0, 1, 0))
    mask = torch.ones(length, length, dtype=torch.bool).tril()
    cache, logits = DynamicCache(), list[torch.Tensor]()
    for step in range(DRAFT_STEPS):
        positions = (torch.arange(length) + step)[None]
        rotation = target.model.rotary_emb(embedded, positions)
        hidden = head(ahead(embedded, step), hidden, rotation, mask[None, None], cache)
        logits.append(target.lm_head(hidden))
        mask = torch.cat([mask, torch.eye(length, dtype=torch.bool)], dim=1)
    return logits


def head_loss(target: Qwen3_5ForCausalLM, head: Head, texts: Sequence[Encoded]) -> torch.Tensor:
    """Mean over the steps of the cross-entropy of the head against the target's distribution."""
    tokens, weights = rows_of(texts)
    with torch.no_grad():
        hidden = target.model(input_ids=tokens, use_cache=False).last_hidden_state
        wanted = target.lm_head(hidden).softmax(-1)
    total = torch.zeros(())
    for step, logits in enumerate(draft_logits(target, head, tokens, hidden)):
        weight = ahead(weights, step + 1)
        weight[:, -step - 1 :] = 0.0
        losses = -(ahead(wanted, step) * functional.log_softmax(logits, -1)).sum(-1)
        total = total + (losses * weight).sum() / weight.sum()
    return total / DRAFT_STEPS


@torch.no_grad()
def acceptance(target: Qwen3_5ForCausalLM, head: Head, answers: Sequence[Encoded]) -> tuple[float, float]:
    """(accepted / proposed, mean accepted a step) of greedy drafting along the target's own greedy answers."""
    accepted = proposed = steps = 0
    for ids, weights in answers:
        tokens = torch.tensor([ids])
        hidden = target.model(input_ids=tokens, use_cache=False).last_hidden_state
        picks = [logits.argmax(-1)[0].tolist() for logits in draft_logits(target, head, tokens, hidden)]
        at = sum(weight == 0 for weight in weights)  # the answer's first token is there before the first guess
        while at + 1 < len(ids):
            limit = min(DRAFT_STEPS, len(ids) - at - 1)
            hits = next((s for s in range(limit) if picks[s][at] != ids[at + s + 1]), limit)
            accepted, proposed, steps, at = accepted + hits, proposed + limit, steps + 1, at + hits + 1
    return accepted / proposed, accepted / steps


def train_head(
    target: Qwen3_5ForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path, steps: int, minutes: float, seed: int
) -> Head:
    """Train on the target's own answers, made in a quarter of the time, and on the corpus, one batch in four."""
    torch.manual_seed(seed)
    target.requires_grad_(False)
    head = Head(target.config)
    path = folder / "transcripts.pt"
    if not path.exists():
        asked = [chat_prompt(tokenizer, prompt) for prompt in held_out_prompts(24)]
        held = answer(target, tokenizer, asked, max_new_tokens=160, sample=False)
        torch.save((held, transcripts(target, tokenizer, seed + 5, minutes / 4, at_most=6400)), path)
    held_out, pool = torch.load(path, weights_only=True)

    def loss(step: int) -> torch.Tensor:
        rng = random.Random(seed * 1_000_003 + step)
        own = choose(rng.sample(pool, 64), rng) if step % 4 != 3 else corpus_batch(tokenizer, seed * 7_000_003 + step)
        return head_loss(target, head, own)

    def judge() -> str:
        share, mean = acceptance(target, head, held_out)
        return f"accepted {share:.3f}, {mean:.2f} a step"

    _run(head, folder / "head.pt", steps, minutes, loss, judge)
    return head
