"""Results of a trained pair on held-out prompts: acceptance in transformers' assisted generation, sample answers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from transformers import DynamicCache, Gemma4AssistantForCausalLM, PreTrainedTokenizerFast
from transformers.generation.candidate_generator import SinglePositionMultiTokenCandidateGenerator
from transformers.models.gemma4 import Gemma4ForCausalLM

from scripts.train.tiny_pair.corpus import held_out_prompts

DRAFTED = 4
SAMPLES = ["Tell me a story about a brave cat.", "Why do birds sing?", "What is 7 plus 5?", "Who are you?", "Hello!",
           "Write a Python function that sorts a list.", "Name three animals."]  # fmt: skip


@dataclass
class Counts:
    """Drafts of one or more assisted generations, as the candidate generator saw them."""

    steps: int = 0
    proposed: int = 0
    accepted: int = 0
    drafts: list[list[int]] = field(default_factory=list)


@contextlib.contextmanager
def counted(mended: bool) -> Iterator[Counts]:
    """Count what transformers drafts (``get_candidates``) and accepts (``update_candidate_strategy``).

    ``mended`` hands the assistant what it was trained on. transformers 5.12.1 as it is gives the first draft of an
    answer the hidden row of the prompt's first token, and leaves a rejected draft token's K/V in the assistant's sight.
    """
    kind, counts = SinglePositionMultiTokenCandidateGenerator, Counts()
    propose, settle = kind.get_candidates, kind.update_candidate_strategy
    latest: list[int] = []

    def get_candidates(
        self: object, input_ids: torch.Tensor, model_kwargs: dict[str, object], model_outputs: object,
        is_first_iteration: bool, n_last_matches: int,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:  # fmt: skip
        if mended and not is_first_iteration:
            model_outputs = _mended(model_outputs, input_ids.shape[1], -1 if counts.steps == 0 else int(n_last_matches))
            n_last_matches = 0
        out = propose(self, input_ids, model_kwargs, model_outputs, is_first_iteration, n_last_matches)
        latest[:] = out[0][0, input_ids.shape[1] :].tolist()
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


def _mended(outputs: Any, length: int, row: int) -> SimpleNamespace:
    """The target's hidden row of the last decoded token, and its K/V of the ``length - 1`` tokens that were decoded."""
    hidden = outputs.hidden_states[-1]
    row = hidden.shape[1] - 1 if row < 0 else row
    shared = {kind: (k[:, :, : length - 1], v[:, :, : length - 1]) for kind, (k, v) in outputs.shared_kv_states.items()}
    return SimpleNamespace(hidden_states=(hidden[:, row : row + 1],), shared_kv_states=shared)


def assisted(
    target: Gemma4ForCausalLM, assistant: Gemma4AssistantForCausalLM, ids: list[int], max_new_tokens: int = 128,
    mended: bool = True,
) -> tuple[list[int], Counts]:  # fmt: skip
    """Greedy assisted generation, four tokens drafted a step; (new token ids, counts)."""
    # transformers reads these from the assistant's own generation config.
    assistant.generation_config.num_assistant_tokens = DRAFTED
    assistant.generation_config.num_assistant_tokens_schedule = "constant"
    assistant.generation_config.assistant_confidence_threshold = 0.0
    with counted(mended) as counts, torch.no_grad():
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


@torch.no_grad()
def first_drafts(
    target: Gemma4ForCausalLM, assistant: Gemma4AssistantForCausalLM, ids: list[int], count: int, keys: int
) -> tuple[list[int], torch.Tensor]:
    """Greedy drafts after ``ids`` and the target's next token, as transformers' modules compute them; (ids, logits).

    The assistant's sliding layer is given the last ``keys`` tokens. Left to itself transformers shows it as many tokens
    as the window is wide; llama.cpp counts the query's own position as one of them.
    """
    out = target(
        input_ids=torch.tensor([ids]), use_cache=False, output_hidden_states=True, return_shared_kv_states=True
    )
    token, hidden = out.logits[:, -1:].argmax(-1), out.hidden_states[-1][:, -1:]
    k, v = out.shared_kv_states["sliding_attention"]
    shared = {**out.shared_kv_states, "sliding_attention": (k[:, :, -keys:], v[:, :, -keys:])}
    rows = []
    for _ in range(count):
        embedded = torch.cat([target.get_input_embeddings()(token), hidden], dim=-1)
        step = assistant(
            inputs_embeds=embedded, position_ids=torch.tensor([[len(ids)]]), shared_kv_states=shared,
            attention_mask=torch.ones(1, len(ids) + 1, dtype=torch.long),
        )  # fmt: skip
        token, hidden = step.logits.argmax(-1), step.last_hidden_state
        rows.append(step.logits[0, 0])
    return [int(row.argmax()) for row in rows], torch.stack(rows)


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
