"""Training of the MTP assistant on the target's hidden states and caches: four draft steps distil the target.

The assistant is trained where it will be used: mostly on the target's own greedy answers. At draft step s the query
that follows token t keeps position t + 1 and sees the target's K/V up to t; its inputs are the embedding of token t + s
and the target's hidden row of t or, from the second step on, its own last hidden state.
"""

from __future__ import annotations

import functools
import itertools
import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.nn import functional
from transformers import Gemma4AssistantForCausalLM, PreTrainedTokenizerFast
from transformers.models.gemma4 import Gemma4ForCausalLM

from scripts.train.tiny_pair.batches import Rows, causal_masks, draft_masks, encode, pack, pack_encoded
from scripts.train.tiny_pair.corpus import conversation, documents, held_out_prompts, render
from scripts.train.tiny_pair.model import TURN_END, build_assistant
from scripts.train.tiny_pair.optimizer import optimizers, rate
from scripts.train.tiny_pair.train import SAVE_EVERY, restore_state, save_state, update

DRAFT_STEPS = 4
Encoded = tuple[list[int], list[float]]


def prompts(seed: int) -> Iterator[str]:
    """Chat prompts of the training kind, cut where the model is to answer; now and then the start of a story."""
    rng = random.Random(seed)
    while True:
        if rng.random() < 0.08:
            words = next(documents(rng.randrange(10**9)))[5:].split(" ")
            if not words[0].startswith("<"):
                yield "<bos>" + " ".join(words[: rng.randint(1, 6)])
            continue
        messages, thinking = conversation(rng, max_turns=5)
        users = [at for at, message in enumerate(messages) if message["role"] == "user"]
        yield render(messages[: rng.choice(users) + 1], thinking) + "<|turn>model\n"


@torch.no_grad()
def answer(
    target: Gemma4ForCausalLM, tokenizer: PreTrainedTokenizerFast, texts: list[str], max_new_tokens: int, sample: bool
) -> list[Encoded]:
    """The target's answers as (token ids, weights): weight 0 for the prompt, 1 for the answer with its end token."""
    ends = {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids(TURN_END)}
    ids = [encode(tokenizer, text)[0] for text in texts]
    width = max(map(len, ids))
    padded = torch.tensor([[tokenizer.pad_token_id] * (width - len(row)) + row for row in ids])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids])
    options = {"do_sample": True, "temperature": 0.8, "top_k": 0} if sample else {"do_sample": False}
    out = target.generate(padded, attention_mask=mask, max_new_tokens=max_new_tokens, **options)
    done = []
    for row, tail in zip(ids, out[:, width:].tolist(), strict=True):
        stop = next((at + 1 for at, token in enumerate(tail) if token in ends), len(tail))
        done.append((row + tail[:stop], [0.0] * len(row) + [1.0] * stop))
    return done


def transcripts(
    target: Gemma4ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    seed: int,
    minutes: float,
    at_most: int,
    group: int = 64,
) -> list[Encoded]:
    """Answers of the target to training prompts, one group in five sampled; groups of like length save padding."""
    begun, done = time.monotonic(), []
    pool = sorted(itertools.islice(prompts(seed), at_most), key=len)
    pool = [text for text in pool if len(text) < 1600]
    groups = [pool[at : at + group] for at in range(0, len(pool), group)]
    random.Random(seed).shuffle(groups)
    for number, texts in enumerate(groups):
        if time.monotonic() - begun > minutes * 60:
            break
        done += answer(target, tokenizer, texts, max_new_tokens=160, sample=number % 5 == 4)
    print(
        f"{len(done)} transcripts, {sum(len(d[0]) for d in done)} tokens, {time.monotonic() - begun:.0f} s", flush=True
    )
    return done


@torch.no_grad()
def observe(
    target: Gemma4ForCausalLM, rows: Rows
) -> tuple[torch.Tensor, torch.Tensor, dict[str, tuple[torch.Tensor, torch.Tensor]]]:
    """Hidden rows after the last norm, logits, and the K/V of the target's last layers that own some."""
    out = target.model(
        input_ids=rows.tokens, attention_mask=causal_masks(rows), position_ids=rows.positions, use_cache=False,
        return_shared_kv_states=True,
    )  # fmt: skip
    cap = target.config.final_logit_softcapping
    logits = torch.tanh(target.lm_head(out.last_hidden_state) / cap) * cap
    return out.last_hidden_state, logits, {kind: (k, v) for kind, (k, v) in out.shared_kv_states.items()}


def ahead(values: torch.Tensor, steps: int) -> torch.Tensor:
    """``values[:, t + steps]`` at index t; what runs off the end repeats the start and must be masked."""
    return values.roll(-steps, dims=1)


def draft_logits(
    assistant: Gemma4AssistantForCausalLM, embedded: torch.Tensor, hidden: torch.Tensor, positions: torch.Tensor,
    masks: dict[str, torch.Tensor], shared: dict[str, tuple[torch.Tensor, torch.Tensor]],
) -> list[torch.Tensor]:  # fmt: skip
    """Logits (rows, length, vocabulary) of the four draft steps from every position, fed with the true tokens."""
    logits = []
    for step in range(1, DRAFT_STEPS + 1):
        joined = torch.cat([ahead(embedded, step), hidden], dim=-1)
        out = assistant.model(
            inputs_embeds=assistant.pre_projection(joined), attention_mask=masks, position_ids=positions + 1,
            shared_kv_states=dict(shared), use_cache=False,
        ).last_hidden_state  # fmt: skip
        hidden = assistant.post_projection(out)
        logits.append(assistant.lm_head(out))
    return logits


def step_weight(rows: Rows, step: int) -> torch.Tensor:
    """Weight of the token that draft step ``step`` predicts from each position; 0 across documents and row ends."""
    far = step + 1
    same = (ahead(rows.documents, far) == rows.documents) & (rows.documents >= 0)
    weight = ahead(rows.weights, far) * same
    weight[:, -far:] = 0.0
    return weight


def distillation_loss(
    assistant: Gemma4AssistantForCausalLM, embedded: torch.Tensor, hidden: torch.Tensor, positions: torch.Tensor,
    masks: dict[str, torch.Tensor], shared: dict[str, tuple[torch.Tensor, torch.Tensor]], wanted: torch.Tensor,
    weights: list[torch.Tensor],
) -> torch.Tensor:  # fmt: skip
    """Mean over the steps of the cross-entropy of the assistant against the target's distribution."""
    total = torch.zeros(())
    probabilities = wanted.softmax(-1)
    for step, logits in enumerate(draft_logits(assistant, embedded, hidden, positions, masks, shared), 1):
        loss = -(ahead(probabilities, step) * functional.log_softmax(logits, -1)).sum(-1)
        total = total + (loss * weights[step - 1]).sum() / weights[step - 1].sum()
    return total / DRAFT_STEPS


@torch.no_grad()
def acceptance(
    target: Gemma4ForCausalLM, assistant: Gemma4AssistantForCausalLM, answers: list[Encoded]
) -> tuple[float, float]:
    """(accepted / proposed, mean accepted a step) of greedy drafting along the target's own greedy answers.

    Along a greedy answer speculative decoding needs no decoding: a draft is accepted while it equals the answer.
    """
    accepted = proposed = steps = 0
    for ids, weights in answers:
        rows = Rows(
            torch.tensor([ids]),
            torch.arange(len(ids))[None],
            torch.zeros(1, len(ids), dtype=torch.long),
            torch.tensor([weights]),
        )
        hidden, _, shared = observe(target, rows)
        embedded = target.model.embed_tokens(rows.tokens)
        picks = [
            x.argmax(-1)[0].tolist()
            for x in draft_logits(assistant, embedded, hidden, rows.positions, draft_masks(rows), shared)
        ]
        at = int(sum(w == 0 for w in weights)) - 1
        while at + 1 < len(ids) - 1:
            limit = min(DRAFT_STEPS, len(ids) - at - 2)
            hits = next((s for s in range(limit) if picks[s][at] != ids[at + s + 2]), limit)
            accepted, proposed, steps, at = accepted + hits, proposed + limit, steps + 1, at + hits + 1
    return accepted / proposed, accepted / steps


def train_assistant(
    target: Gemma4ForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path, steps: int, minutes: float, seed: int,
    compiled: bool, at_most: int = 12800,
) -> Gemma4AssistantForCausalLM:  # fmt: skip
    """Train on transcripts (made in the first third of the time) and on corpus text, one batch in four.

    Ends after ``steps`` steps or ``minutes`` minutes; continues from ``folder`` if it can.
    """
    torch.manual_seed(seed)
    target.requires_grad_(False)
    assistant = _fresh(target)
    opts = optimizers(assistant)
    begun = time.monotonic()
    held_out, pool = _answers(target, tokenizer, folder, seed, minutes * 0.33, at_most)
    step, spent = restore_state(folder / "assistant.pt", assistant, opts)
    begun -= spent
    fast = torch.compile(distillation_loss, dynamic=False) if compiled else distillation_loss
    while True:
        spent = time.monotonic() - begun
        progress = max(step / steps, spent / 60 / minutes)
        if step % SAVE_EVERY == 0 or progress >= 1:
            share, mean = acceptance(target, assistant, held_out)
            print(f"assistant step {step} progress {progress:.2f} accepted {share:.3f}, {mean:.2f} a step", flush=True)
            save_state(folder / "assistant.pt", assistant, opts, step, spent)
        if progress >= 1:
            return assistant
        if step % 4 == 3:
            rows = pack(tokenizer, documents(seed * 7_000_003 + step), rows=8, length=512)
        else:
            rng = random.Random(seed * 1_000_003 + step)
            rows = pack_encoded(iter(functools.partial(rng.choice, pool), None), rows=8, length=512)
        hidden, logits, shared = observe(target, rows)
        weights = [step_weight(rows, s) for s in range(1, DRAFT_STEPS + 1)]
        embedded = target.model.embed_tokens(rows.tokens)
        loss = fast(assistant, embedded, hidden, rows.positions, draft_masks(rows), shared, logits, weights)
        loss.backward()
        update(opts, rate(progress))
        step += 1


def _fresh(target: Gemma4ForCausalLM) -> Gemma4AssistantForCausalLM:
    """An assistant whose vocabulary head starts as the best projection of the target's to its own width."""
    assistant = build_assistant(target.config)
    u, s, _ = torch.linalg.svd(target.model.embed_tokens.weight, full_matrices=False)
    width = assistant.hidden_size
    assistant.lm_head.weight.data.copy_(u[:, :width] * s[:width])
    return assistant


def _answers(
    target: Gemma4ForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path, seed: int, minutes: float, at_most: int
) -> tuple[list[Encoded], list[Encoded]]:
    """The target's answers to held-out prompts and to training prompts; made once and kept in ``folder``."""
    path = folder / "transcripts.pt"
    if not path.exists():
        test = [chat_prompt(tokenizer, prompt) for prompt in held_out_prompts(24)]
        held_out = answer(target, tokenizer, test, max_new_tokens=160, sample=False)
        torch.save((held_out, transcripts(target, tokenizer, seed + 5, minutes, at_most)), path)
    held_out, pool = torch.load(path, weights_only=True)
    return held_out, pool


def chat_prompt(tokenizer: PreTrainedTokenizerFast, messages: list[dict[str, str]]) -> str:
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
