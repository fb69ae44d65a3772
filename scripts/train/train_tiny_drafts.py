#!/usr/bin/env python3
"""Train the built-in assistant further, on its target's answers to pictures, sounds and texts.

    python -m scripts.train.checkpoint_of_tiny --work tiny-work       # both models, from localspec/models/builtin
    python -m scripts.train.train_tiny_drafts --work tiny-work        # about 15 minutes of one core

Needs torch, transformers==5.12.1, tokenizers, Pillow, and what localspec and gguf_convert need, in one Python. The
projector is that of localspec/models/builtin.
"""

from __future__ import annotations

import argparse
import pickle
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import Gemma4AssistantForCausalLM, PreTrainedTokenizerFast
from transformers.models.gemma4 import Gemma4ForCausalLM

import localspec
from scripts.train.tiny_pair.assistant import acceptance, distillation_loss, draft_logits, step_weight
from scripts.train.tiny_pair.batches import Rows, causal_masks, draft_masks
from scripts.train.tiny_pair.model import SLIDING_WINDOW, finish_configs
from scripts.train.tiny_pair.optimizer import optimizers
from scripts.train.tiny_pair.train import update
from scripts.train.tiny_senses.answers import Answer, held_out_answers, media_answers, text_answers

MODELS = Path(__file__).resolve().parents[2] / "localspec/models/builtin"
#: Share of the rate of a training from nothing.
RATE = 0.4
#: Rows of a batch, and their tokens.
ROWS, LENGTH = 8, 512


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--work", type=Path, default=Path("tiny-work"), help="folder of target/ and assistant/")
    parser.add_argument("--out", type=Path, default=MODELS / "tiny-assistant.gguf")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=9, help="computing time of the training")
    parser.add_argument("--texts", type=int, default=3000, help="answers to texts")
    parser.add_argument("--media", type=int, default=1500, help="answers to pictures and sounds")
    parser.add_argument("--share", type=float, default=0.4, help="share of the batches that are of pictures and sounds")
    return parser.parse_args()


def answers(args: argparse.Namespace) -> dict[str, list[Answer]]:
    """The target's answers; made once."""
    path = args.work / "answers.pickle"
    if not path.exists():
        with localspec.load("tiny", "auto", threads=1) as llm:
            found = {
                "held out": list(held_out_answers(llm, 32)),
                "held out media": list(media_answers(llm, 64, args.seed + 1000)),
                "texts": list(text_answers(llm, args.texts, args.seed + 5)),
                "media": list(media_answers(llm, args.media, args.seed)),
            }
        path.write_bytes(pickle.dumps(found))
    loaded: dict[str, list[Answer]] = pickle.loads(path.read_bytes())
    return loaded


def batch(rng: random.Random, pool: Sequence[Answer]) -> tuple[Rows, torch.Tensor, torch.Tensor]:
    """Answers packed into rows, with the embeddings of media, and the number of the span of each cell (0: none)."""
    shape = (ROWS, LENGTH)
    tokens, positions, spans = (torch.zeros(shape, dtype=torch.long) for _ in range(3))
    owner, weights, shown = torch.full(shape, -1), torch.zeros(shape), torch.zeros(*shape, 192)
    for row in range(ROWS):
        at = number = 0
        while at < LENGTH:
            one = rng.choice(pool)
            ids = one.tokens[: LENGTH - at]
            if any(begin + len(cells) > len(ids) for begin, cells, _ in one.media):
                break
            here = slice(at, at + len(ids))
            tokens[row, here] = torch.tensor(ids)
            positions[row, here], owner[row, here] = torch.arange(len(ids)), number
            weights[row, at + one.begin : at + len(ids)] = 1.0
            for index, (begin, cells, both) in enumerate(one.media, 1):
                place = slice(at + begin, at + begin + len(cells))
                shown[row, place] = torch.from_numpy(cells).float()
                spans[row, place] = 100 * number + index if both else -1
            at, number = at + len(ids), number + 1
    return Rows(tokens, positions, owner, weights), shown, spans


@torch.no_grad()
def observe(
    target: Gemma4ForCausalLM, rows: Rows, shown: torch.Tensor, spans: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Any]:
    """Embeddings, hidden rows, logits and K/V of the target, as llama.cpp computes them: pictures see themselves."""
    embedded = target.model.embed_tokens(rows.tokens)
    layered = target.model.get_per_layer_inputs(rows.tokens, embedded)
    inputs = torch.where((spans != 0)[..., None], shown, embedded)
    masks = causal_masks(rows)
    both = (spans[:, :, None] == spans[:, None]) & (spans > 0)[:, None] & (rows.documents[:, :, None] >= 0)
    near = (rows.positions[:, :, None] - rows.positions[:, None]).abs() < SLIDING_WINDOW
    masks["sliding_attention"] = masks["sliding_attention"] | (both & near)[:, None]
    out = target.model(
        inputs_embeds=inputs, per_layer_inputs=layered, attention_mask=masks, position_ids=rows.positions,
        use_cache=False, return_shared_kv_states=True,
    )  # fmt: skip
    cap = target.config.final_logit_softcapping
    logits = torch.tanh(target.lm_head(out.last_hidden_state) / cap) * cap
    return embedded, out.last_hidden_state, logits, dict(out.shared_kv_states)


@torch.no_grad()
def right_drafts(target: Gemma4ForCausalLM, assistant: Gemma4AssistantForCausalLM, seen: Any) -> str:
    """Share of drafts that are the target's tokens at each draft step, behind media."""
    rows, shown, spans = seen
    embedded, hidden, logits, shared = observe(target, rows, shown, spans)
    found = draft_logits(assistant, embedded, hidden, rows.positions, draft_masks(rows), shared)
    shares = []
    for step, drafted in enumerate(found, 1):
        right = (drafted.argmax(-1) == logits.argmax(-1).roll(-step, 1)) * step_weight(rows, step)
        shares.append(float(right.sum() / step_weight(rows, step).sum()))
    return " ".join(f"{share:.3f}" for share in shares)


def train(args: argparse.Namespace, say: Callable[[str], None]) -> Gemma4AssistantForCausalLM:
    torch.manual_seed(args.seed)
    target = Gemma4ForCausalLM.from_pretrained(args.work / "target", dtype=torch.float32).eval().requires_grad_(False)
    assistant = Gemma4AssistantForCausalLM.from_pretrained(args.work / "assistant", dtype=torch.float32)
    opts, found, rng = optimizers(assistant), answers(args), random.Random(args.seed)
    say(f"{ {name: len(pool) for name, pool in found.items()} }")
    texts = [(one.tokens, [0.0] * one.begin + [1.0] * (len(one.tokens) - one.begin)) for one in found["held out"]]
    seen = batch(random.Random(0), found["held out media"])
    fast = torch.compile(distillation_loss, dynamic=False)
    step, begun = 0, time.process_time()
    while True:
        progress = (time.process_time() - begun) / 60 / args.minutes
        if step % 50 == 0 or progress >= 1:
            share, mean = acceptance(target, assistant, texts)
            drafts = right_drafts(target, assistant, seen)
            say(f"step {step} progress {progress:.2f} texts {share:.3f}, {mean:.2f} a step; media {drafts}")
        if progress >= 1:
            return assistant
        rows, shown, spans = batch(rng, found["media" if rng.random() < args.share else "texts"])
        embedded, hidden, logits, shared = observe(target, rows, shown, spans)
        weights = [step_weight(rows, s) for s in range(1, 5)]
        fast(assistant, embedded, hidden, rows.positions, draft_masks(rows), shared, logits, weights).backward()
        warm = max(progress, 0.002) / 0.04
        update(opts, RATE * (warm if warm < 1 else max(0.02, min(1.0, (1 - progress) / 0.7))))
        step += 1


def main() -> None:
    args = options()
    torch.set_num_threads(1)
    assistant = train(args, lambda line: print(line, flush=True))
    tokenizer = PreTrainedTokenizerFast.from_pretrained(args.work / "target")
    folder = args.work / "assistant-further"
    finish_configs(assistant, tokenizer)
    assistant.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    command = [sys.executable, "-m", "gguf_convert", str(folder), "-o", str(args.out), "--type", "Q8_0", "--force"]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
