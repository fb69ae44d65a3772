"""What a trained pair does on held-out prompts: acceptance in transformers' assisted generation, and sample answers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import DynamicCache, Gemma4AssistantForCausalLM, PreTrainedTokenizerFast
from transformers.generation.candidate_generator import SinglePositionMultiTokenCandidateGenerator
from transformers.models.gemma4 import Gemma4ForCausalLM

from tiny_pair.corpus import held_out_prompts

SAMPLES = ["Tell me a story about a brave cat.", "Why do birds sing?", "What is 7 plus 5?", "Who are you?", "Hello!",
           "Write a Python function that sorts a list.", "Name three animals."]  # fmt: skip


@dataclass
class Counts:
    """Drafts of one or more assisted generations, as the candidate generator saw them, with their logits."""

    steps: int = 0
    proposed: int = 0
    accepted: int = 0
    drafts: list[list[int]] = field(default_factory=list)
    logits: list[torch.Tensor] = field(default_factory=list)


@contextlib.contextmanager
def counted() -> Iterator[Counts]:
    """Count what transformers drafts (``get_candidates``) and accepts (``update_candidate_strategy``)."""
    kind, counts = SinglePositionMultiTokenCandidateGenerator, Counts()
    propose, settle = kind.get_candidates, kind.update_candidate_strategy
    latest: list[int] = []

    def get_candidates(
        self: object, input_ids: torch.Tensor, *rest: object, **named: object
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        out = propose(self, input_ids, *rest, **named)
        latest[:] = out[0][0, input_ids.shape[1] :].tolist()
        if latest:
            counts.logits.append(out[1][0])
        return out

    def update_candidate_strategy(self: object, input_ids: torch.Tensor, scores: object, num_matches: int) -> object:
        if latest:
            counts.steps += 1
            counts.proposed += len(latest)
            counts.accepted += int(num_matches)
            counts.drafts.append(list(latest))
        return settle(self, input_ids, scores, num_matches)

    kind.get_candidates, kind.update_candidate_strategy = get_candidates, update_candidate_strategy
    try:
        yield counts
    finally:
        kind.get_candidates, kind.update_candidate_strategy = propose, settle


def assisted(
    target: Gemma4ForCausalLM,
    assistant: Gemma4AssistantForCausalLM,
    ids: list[int],
    max_new_tokens: int = 128,
    drafts: int = 4,
) -> tuple[list[int], Counts]:
    """Greedy assisted generation with a constant number of drafts; (new token ids, counts)."""
    # transformers reads these from the assistant's own generation config.
    assistant.generation_config.num_assistant_tokens = drafts
    assistant.generation_config.num_assistant_tokens_schedule = "constant"
    assistant.generation_config.assistant_confidence_threshold = 0.0
    with counted() as counts, torch.no_grad():
        out = target.generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            assistant_model=assistant,
            # Left alone, transformers 5.12.1 makes a cache with sliding layers here, which it then cannot crop.
            past_key_values=DynamicCache(),
            do_sample=False,
            max_new_tokens=max_new_tokens,
        )
    return out[0, len(ids) :].tolist(), counts


def report_pair(target_folder: Path, assistant_folder: Path, prompts: int) -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(target_folder)
    target = Gemma4ForCausalLM.from_pretrained(target_folder, dtype="float32")
    assistant = Gemma4AssistantForCausalLM.from_pretrained(assistant_folder, dtype="float32")
    total = Counts()
    asked = [[{"role": "user", "content": text}] for text in SAMPLES] + held_out_prompts(prompts)
    for number, messages in enumerate(asked):
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        new, counts = assisted(target, assistant, tokenizer.encode(text, add_special_tokens=False))
        if number < len(SAMPLES) + 6:
            print(f"\n> {messages[-1]['content']}\n{tokenizer.decode(new)}")
        if number >= len(SAMPLES):
            total.steps, total.proposed, total.accepted = (
                total.steps + counts.steps, total.proposed + counts.proposed, total.accepted + counts.accepted
            )  # fmt: skip
    print(
        f"\nheld out, greedy, 4 drafted: {total.accepted} of {total.proposed} drafts accepted "
        f"({total.accepted / max(total.proposed, 1):.3f}), {total.accepted / max(total.steps, 1):.2f} accepted a step"
    )
