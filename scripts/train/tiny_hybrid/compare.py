#!/usr/bin/env python3
"""Compare localspec with torch on the small hybrid model: greedy tokens of the target, and guesses of its head.

    TORCH_PYTHON -m scripts.train.tiny_hybrid.compare --work tiny-hybrid --reference
    python -m scripts.train.tiny_hybrid.compare --work tiny-hybrid

The first command writes what torch says; the second reads it, converts the checkpoint to F32 and compares. A guess is
compared while the guesses before it were right, because torch reads the true tokens. Exits 1 if a target token differs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

PROMPTS, TOKENS, EVERY = 16, 96, 3


def write_reference(work: Path) -> None:
    """Greedy answers to held-out prompts, and the head's guesses before each of their tokens."""
    import torch
    from transformers import PreTrainedTokenizerFast

    from scripts.train.tiny_hybrid.model import load_checkpoint
    from scripts.train.tiny_hybrid.train import draft_logits
    from scripts.train.tiny_pair.assistant import answer, chat_prompt
    from scripts.train.tiny_pair.corpus import held_out_prompts

    torch.set_num_threads(1)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(work / "checkpoint")
    target, head = load_checkpoint(work / "checkpoint")
    found = []
    for messages in held_out_prompts(PROMPTS, seed=7):
        ((ids, weights),) = answer(target, tokenizer, [chat_prompt(tokenizer, messages)], TOKENS, sample=False)
        tokens = torch.tensor([ids])
        with torch.no_grad():
            hidden = target.model(input_ids=tokens, use_cache=False).last_hidden_state
            guesses = [logits.argmax(-1)[0].tolist() for logits in draft_logits(target, head, tokens, hidden)]
        found.append({"ids": ids, "prompt": sum(weight == 0 for weight in weights), "guesses": guesses})
    (work / "reference.json").write_text(json.dumps(found))


def compare(work: Path) -> int:
    from localspec.gguf.header import read_header
    from localspec.llama.model import LlamaModel
    from localspec.params import ContextParams

    file = work / "compared-F32.gguf"
    command = [sys.executable, "-m", "gguf_convert", work / "checkpoint", "-o", file, "--type", "F32", "--force"]
    subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
    params = ContextParams(threads=1, cache_type_k="f32", cache_type_v="f32")
    model, counts = LlamaModel(read_header(file), params, heads=True), Counter[str]()
    for answer in json.loads((work / "reference.json").read_text()):
        counts += compared(model, params, answer)
    model.close()
    print(f"target: {counts['same']} of {counts['tokens']} tokens equal")
    print(f"head: {counts['same guesses']} of {counts['guesses']} guesses equal, {counts['right']} of them right")
    return int(counts["same"] < counts["tokens"])


def compared(model: Any, params: Any, answer: dict[str, Any]) -> Counter[str]:
    """Tokens and guesses along one answer that are equal."""
    from localspec.draft.base import Prefix
    from localspec.draft.heads import HeadDrafter
    from localspec.llama.context import LlamaContext
    from localspec.llama.heads import LlamaHeadContext
    from localspec.params import SamplingParams
    from localspec.sampling import Sampler

    ids, guesses, counts = answer["ids"], answer["guesses"], Counter[str]()
    target = LlamaContext(model, params, 1024, keeps_rows=True)
    drafter = HeadDrafter(LlamaHeadContext(model, params, target))
    prefix = Prefix(ids[: answer["prompt"]], Sampler(SamplingParams(temperature=0.0)))
    row = target.decode(prefix.tokens, "last")
    for at in range(answer["prompt"], len(ids)):
        counts["tokens"] += 1
        counts["same"] += int(row[-1].argmax()) == ids[at]
        prefix.tokens.append(ids[at])
        if at % EVERY == 0:
            ours = [guess.token for guess in islice(drafter.propose(prefix), len(guesses))]
            for step, token in enumerate(ours[: len(ids) - at - 1]):
                counts["guesses"] += 1
                counts["same guesses"] += token == guesses[step][at]
                counts["right"] += token == ids[at + step + 1]
                if token != ids[at + step + 1]:
                    break
        row = target.decode([ids[at]])
    drafter.close()
    target.close()
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("tiny-hybrid"), help="the folder of train_tiny_hybrid")
    parser.add_argument("--reference", action="store_true", help="write torch's side")
    args = parser.parse_args()
    if args.reference:
        write_reference(args.work)
    else:
        sys.exit(compare(args.work))


if __name__ == "__main__":
    main()
