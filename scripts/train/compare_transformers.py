#!/usr/bin/env python3
"""State how far llama.cpp is from transformers on the pair ``tiny``, and how far localspec's acceptance is.

    python -m scripts.train.compare_transformers --work DIR --torch-python PYTHON

DIR holds the Hugging Face checkpoints ``target`` and ``assistant`` that scripts.train.train_tiny_pair writes; PYTHON
has torch and transformers==5.12.1. Converts the pair to F32 and prints the largest differences in target logits, hidden
rows and the first eight drafts, for contexts below and above the sliding window, with F32 caches on both sides; then
the MTP acceptance on held-out prompts, greedy, four drafted, of transformers' assisted generation and of localspec.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / "localspec/models/builtin"
CONTEXTS = (48, 90, 160, 320, 640)
ROWS, DRAFTS, MAX_NEW = 40, 8, 128


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--work", type=Path, default=Path("tiny-work"))
    parser.add_argument("--torch-python", default=sys.executable)
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--reference", type=Path, help="(internal) write transformers' side to this file")
    return parser.parse_args()


# --- transformers' side, run by --torch-python -----------------------------------------------------------------


def write_reference(work: Path, out: Path, prompts: int) -> None:
    """Token ids, target logits and hidden rows, first drafts, and counts of assisted generation, as .npz."""
    import torch
    from transformers import Gemma4AssistantForCausalLM, PreTrainedTokenizerFast
    from transformers.models.gemma4 import Gemma4ForCausalLM

    from scripts.train.tiny_pair.corpus import held_out_prompts
    from scripts.train.tiny_pair.model import SLIDING_WINDOW
    from scripts.train.tiny_pair.report import assisted, first_drafts

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    tokenizer = PreTrainedTokenizerFast.from_pretrained(work / "target")
    target = Gemma4ForCausalLM.from_pretrained(work / "target", dtype="float32")
    assistant = Gemma4AssistantForCausalLM.from_pretrained(work / "assistant", dtype="float32")
    kept: dict[str, Any] = {}
    for n, ids in contexts(tokenizer).items():
        with torch.no_grad():
            full = target(input_ids=torch.tensor([ids]), use_cache=False, output_hidden_states=True)
        drafts, draft_logits = first_drafts(target, assistant, ids, DRAFTS, keys=SLIDING_WINDOW)
        _, same_window = first_drafts(target, assistant, ids, DRAFTS, keys=SLIDING_WINDOW - 1)
        kept |= {
            f"ids{n}": ids,
            f"logits{n}": full.logits[0, -ROWS:].numpy(),
            f"hidden{n}": full.hidden_states[-1][0, -ROWS:].numpy(),
            f"drafts{n}": drafts,
            f"draft_logits{n}": draft_logits.numpy(),
            f"same_window{n}": same_window.numpy(),
        }
    answers = []
    for messages in held_out_prompts(prompts):
        text = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        ids = tokenizer.encode(text, add_special_tokens=False)
        answer: dict[str, Any] = {"text": text, "ids": ids}
        for name, mended in (("stock", False), ("mended", True)):
            answer["new"], counts = assisted(target, assistant, ids, max_new_tokens=MAX_NEW, mended=mended)
            answer[name] = counts.drafts
        answers.append(answer)
    np.savez(out, answers=json.dumps(answers), **kept)


def contexts(tokenizer: Any) -> dict[int, list[int]]:
    """Conversations of the held-out kind, cut to each length of `CONTEXTS`."""
    from scripts.train.tiny_pair.corpus import documents

    texts = documents(4242, max_turns=16, for_test=True)
    found: dict[int, list[int]] = {}
    for n in CONTEXTS:
        ids: list[int] = []
        while len(ids) < n:
            ids = tokenizer.encode(next(texts), add_special_tokens=False)
        found[n] = ids[:n]
    return found


# --- llama.cpp's side ------------------------------------------------------------------------------------------


class RawPair:
    """Target and assistant in llama.cpp with F32 caches and no flash attention, on plain C calls."""

    def __init__(self, target: Path, assistant: Path, n_ctx: int = 1024) -> None:
        import llama_cpp.llama_cpp as lib
        import llama_cpp.llama_cpp_ext as ext

        self.lib, self.ext = lib, ext
        self._quiet = lib.llama_log_callback(lambda level, text, data: None)
        lib.llama_log_set(self._quiet, ctypes.c_void_p(0))
        lib.llama_backend_init()
        self.models = [self._model(path) for path in (target, assistant)]
        self.target = self._context(self.models[0], n_ctx, None)
        self.assistant = self._context(self.models[1], n_ctx, self.target)
        ext.llama_set_embeddings_nextn(self.target, True, False)
        ext.llama_set_embeddings_nextn(self.assistant, True, True)
        self.vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(self.models[0]))
        self.width = lib.llama_model_n_embd(self.models[0])
        self.batch = lib.llama_batch_init(n_ctx, 0, 1)

    def _model(self, path: Path) -> Any:
        params = self.lib.llama_model_default_params()
        params.n_gpu_layers = 0
        return self.lib.llama_model_load_from_file(os.fsencode(path), params)

    def _context(self, model: Any, n_ctx: int, other: Any) -> Any:
        params = self.lib.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = params.n_outputs_max = n_ctx
        params.n_threads = params.n_threads_batch = 2
        params.type_k = params.type_v = 0
        params.flash_attn_type, params.swa_full = 0, True
        if other is not None:
            params.ctx_type, params.ctx_other = 1, other
        return self.lib.llama_init_from_model(model, params)

    def decode(self, context: Any, tokens: list[int], start: int, hidden: Any = None) -> tuple[Any, Any]:
        """(logits, hidden rows) of every token."""
        self.batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            self.batch.token[i], self.batch.pos[i], self.batch.logits[i] = token, start + i, 1
            self.batch.n_seq_id[i], self.batch.seq_id[i][0] = 1, 0
        if hidden is not None:
            given = np.ascontiguousarray(hidden, dtype=np.float32)
            self.batch.embd = given.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        status = self.lib.llama_decode(context, self.batch)
        self.batch.embd = None
        if status:
            sys.exit(f"llama_decode failed with {status}.")
        rows = range(len(tokens))
        logits = [np.ctypeslib.as_array(self.lib.llama_get_logits_ith(context, i), (self.vocab,)).copy() for i in rows]
        states = [
            np.ctypeslib.as_array(self.ext.llama_get_embeddings_nextn_ith(context, i), (self.width,)).copy()
            for i in rows
        ]
        return np.stack(logits), np.stack(states)

    def draft(self, token: int, position: int, hidden: Any) -> tuple[list[int], Any]:
        """Eight greedy drafts after ``token``, all at ``position``, and their logits."""
        drafts: list[int] = []
        rows = []
        for _ in range(DRAFTS):
            logits, states = self.decode(self.assistant, [token], position, hidden)
            token, hidden = int(logits[0].argmax()), states[0]
            drafts.append(token)
            rows.append(logits[0])
        return drafts, np.stack(rows)


def compare_rows(pair: RawPair, reference: Any) -> None:
    print("largest differences between llama.cpp and transformers, F32")
    print(f"{'context':>8} {'logits':>10} {'hidden':>10} {'drafts':>10} {'same window':>12}  first drafts equal")
    for n in CONTEXTS:
        ids = reference[f"ids{n}"].tolist()
        pair.lib.llama_memory_seq_rm(pair.lib.llama_get_memory(pair.target), 0, 0, -1)
        logits, hidden = pair.decode(pair.target, ids, 0)
        drafts, draft_logits = pair.draft(int(logits[-1].argmax()), n, hidden[-1])
        wanted = reference[f"drafts{n}"].tolist()
        same = sum(a == b for a, b in zip(drafts, wanted, strict=False))
        off = [
            float(np.abs(ours - theirs).max())
            for ours, theirs in (
                (logits[-ROWS:], reference[f"logits{n}"]),
                (hidden[-ROWS:], reference[f"hidden{n}"]),
                (draft_logits, reference[f"draft_logits{n}"]),
                (draft_logits, reference[f"same_window{n}"]),
            )
        ]
        print(f"{n:>8} {off[0]:>10.2g} {off[1]:>10.2g} {off[2]:>10.2g} {off[3]:>12.2g}  {same} of {len(wanted)}")
    scale = max(float(np.abs(reference[f"logits{n}"]).max()) for n in CONTEXTS)
    print(f"largest |logit| {scale:.1f}; hidden rows have unit scale; the sliding window is 96 tokens")
    print("drafts: logits of the drafts; same window: when transformers' assistant sees as many tokens as llama.cpp's")


def recount(answers: list[dict[str, Any]], which: str) -> tuple[int, int, int]:
    """(accepted, proposed, steps) of transformers' drafts by localspec's rule.

    transformers stops a draft at an end token and, when the draft reaches the end of the answer, counts its last token
    as the target's. localspec drafts on, and counts what equals the answer.
    """
    accepted = proposed = steps = 0
    for answer in answers:
        new, at = answer["new"], 1
        for draft in answer[which]:
            room = min(4, MAX_NEW - at - 1)
            if room <= 0:
                break
            pairs = list(zip(draft[:room], new[at:], strict=False))
            right = next((i for i, (ours, theirs) in enumerate(pairs) if ours != theirs), len(pairs))
            accepted, proposed, steps, at = accepted + right, proposed + room, steps + 1, at + right + 1
    return accepted, proposed, steps


def compare_acceptance(files: dict[str, tuple[Path, Path]], answers: list[dict[str, Any]]) -> None:
    import localspec
    from localspec.control.base import FixedDepth

    print(f"\nacceptance, {len(answers)} held-out prompts, greedy, 4 drafted, at most {MAX_NEW} tokens")
    shares = {}
    for which in ("stock", "mended"):
        accepted, proposed, steps = recount(answers, which)
        shares[which] = accepted / proposed
        print(f"transformers, {which}: {accepted}/{proposed} = {shares[which]:.4f}, {accepted / steps:.2f} a step")
    for name, (target, assistant) in files.items():
        accepted = proposed = steps = same = tokens_equal = 0
        with localspec.load(target, draft=assistant, ctx_size=1024) as llm:
            llm.control = FixedDepth(4, only="mtp")
            for answer in answers:
                tokens_equal += llm.tokenize(answer["text"]) == answer["ids"]
                llm.forget()
                done = llm.generate(answer["text"], temperature=0.0, max_tokens=MAX_NEW)
                same += list(done.tokens) == answer["new"][: len(done.tokens)]
                count = done.stats.by_drafter.get("mtp")
                if count:
                    accepted, proposed, steps = (
                        accepted + count.accepted,
                        proposed + count.proposed,
                        steps + count.steps,
                    )
        share = accepted / proposed
        points = ", ".join(f"{100 * (share - theirs):+.2f} points to {which}" for which, theirs in shares.items())
        print(f"localspec, {name}: {accepted}/{proposed} = {share:.4f}, {accepted / steps:.2f} a step; {points}")
        print(f"    same answers {same}/{len(answers)}, same prompt ids {tokens_equal}/{len(answers)}")


def main() -> None:
    args = options()
    if args.reference:
        write_reference(args.work, args.reference, args.prompts)
        return
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "reference.npz"
        command = [
            args.torch_python,
            "-m",
            "scripts.train.compare_transformers",
            "--work",
            str(args.work),
            "--prompts",
            str(args.prompts),
            "--reference",
            str(out),
        ]
        ours = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run(command, check=True, env=ours)
        files = (Path(folder) / "tiny.gguf", Path(folder) / "tiny-assistant.gguf")
        for part, file in zip(("target", "assistant"), files, strict=True):
            convert = [sys.executable, "-m", "gguf_convert", str(args.work / part), "-o", str(file), "--type", "F32"]
            subprocess.run(convert, check=True, env=ours, stdout=subprocess.DEVNULL)
        with np.load(out) as reference:
            compare_rows(RawPair(*files), reference)
            answers = json.loads(str(reference["answers"]))
        compare_acceptance({"F32": files, "Q8_0": (MODELS / "tiny.gguf", MODELS / "tiny-assistant.gguf")}, answers)


if __name__ == "__main__":
    main()
