#!/usr/bin/env python3
"""Train an EAGLE-3 head for the built-in target, to try such heads where their guesses are good.

    python -m scripts.train.train_tiny_eagle --work tiny-eagle --gather    # what the target computes
    TORCH_PYTHON -m scripts.train.train_tiny_eagle --work tiny-eagle       # a few minutes of one core
    python -m scripts.train.train_tiny_eagle --work tiny-eagle --compare   # guesses of torch and of llama.cpp

The second command needs torch, numpy and gguf alone. It writes ``eagle3.gguf`` in F32, with half of the tokens
(``d2t``). As in the paper (arXiv 2503.01840, section 3.1), later guesses are trained on the head's own rows.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Width of the head, its attention heads and their size, its feed-forward, and the steps that are trained.
WIDTH, HEADS, HEAD, FORWARD, STEPS = 192, 4, 48, 512, 4
#: Tokens of the target's vocabulary, and those that the head predicts.
TOKENS, PREDICTED = 2048, 1024
#: Layers whose inputs it reads; rows of a batch; most tokens of an answer with its prompt.
LAYERS, ROWS, LENGTH = (1, 2, 3), 16, 320
_BASE, _EPS = 10_000.0, 1e-6


def gather(work: Path, count: int, seed: int) -> None:
    """Write tokens, inputs of layers and greedy choices for answers of ``tiny``; the last 32 are held out."""
    import localspec
    from localspec.gguf.header import read_header
    from localspec.llama.context import LlamaContext
    from localspec.llama.model import LlamaModel
    from localspec.models.resolve import TINY_TARGET
    from localspec.params import ContextParams
    from scripts.train.tiny_pair.corpus import conversation, held_out_prompts

    dice, prompts = random.Random(seed), list[Any]()
    for _ in range(count):
        messages, _ = conversation(dice, max_turns=2)
        last = max(i for i, message in enumerate(messages) if message["role"] == "user")
        prompts.append(messages[: last + 1])
    answers = []
    with localspec.load("tiny", "auto", threads=1) as llm:
        for number, messages in enumerate([*prompts, *held_out_prompts(32, 99)]):
            prompt = llm.prompt_tokens(messages)
            done = llm.generate(prompt, max_tokens=160, temperature=0.8 * (number % 5 == 4), seed=number)
            answers.append(([*prompt, *done.tokens], len(prompt)))
    params = ContextParams(threads=1, batch=64)
    model = LlamaModel(read_header(TINY_TARGET), params)
    context = LlamaContext(model, params, 1024, input_layers=LAYERS)
    rows, chosen = [], []
    for tokens, _ in answers:
        context.rewind(0)
        chosen += [context.decode(tokens[at : at + 32]).argmax(axis=1) for at in range(0, len(tokens), 32)]
        rows.append(context.kept_rows.get(0, len(tokens)).astype(np.float16))
    np.savez(
        work / "answers.npz",
        tokens=np.concatenate([tokens for tokens, _ in answers]),
        lengths=[len(tokens) for tokens, _ in answers],
        begins=[begin for _, begin in answers],
        rows=np.concatenate(rows),
        chosen=np.concatenate(chosen),
    )


def read(work: Path) -> Iterator[dict[str, Any]]:
    """The answers that were gathered."""
    with np.load(work / "answers.npz") as found:
        data = dict(found)
    start = 0
    for length, begin in zip(data["lengths"], data["begins"], strict=True):
        here = slice(start, min(start + length, start + LENGTH))
        yield {name: data[name][here] for name in ("tokens", "rows", "chosen")} | {"begin": int(begin)}
        start += length


def train(work: Path, minutes: float, seed: int) -> None:  # noqa: PLR0915 (nested, so that torch is imported here alone)
    """Train with cross entropy on the target's greedy choices, and write the head."""
    import torch
    from torch import nn
    from torch.nn import functional

    torch.manual_seed(seed)
    torch.set_num_threads(1)
    answers = list(read(work))
    held_out, answers = answers[-32:], answers[:-32]
    counts = np.bincount(np.concatenate([one["chosen"] for one in answers]), minlength=TOKENS)
    ids = np.sort(np.argsort(-counts, kind="stable")[:PREDICTED])
    place = torch.full((TOKENS,), -100)
    place[torch.from_numpy(ids)] = torch.arange(PREDICTED)

    class Head(nn.Module):
        """The graph of llama.cpp's ``eagle3``; its names are those of the tensors."""

        def __init__(self) -> None:
            super().__init__()
            self.tensors = nn.ParameterDict({
                name.replace(".", "/"): torch.randn(shape) * shape[-1] ** -0.5 if len(shape) > 1 else torch.ones(shape)
                for name, shape in shapes().items()
            })  # fmt: skip

        def __getitem__(self, name: str) -> Any:
            return self.tensors[f"{name}.weight".replace(".", "/")]

        def encode(self, rows: Any) -> Any:
            return functional.linear(rows, self["fc"])

        def forward(self, tokens: Any, state: Any) -> tuple[Any, Any]:
            """Logits and the head's rows for the ``tokens`` behind the rows of ``state``."""
            word = norm(functional.embedding(tokens, self["token_embd"])) * self["blk.0.attn_norm"]
            both = torch.cat([word, norm(state) * self["blk.0.attn_norm_2"]], dim=-1)
            q, k, v = (
                functional.linear(both, self[f"blk.0.attn_{name}"]).unflatten(-1, (HEADS, HEAD)).transpose(1, 2)
                for name in "qkv"
            )
            seen = functional.scaled_dot_product_attention(rotate(q), rotate(k), v, is_causal=True)
            out = state + functional.linear(seen.transpose(1, 2).flatten(2), self["blk.0.attn_output"])
            inner = norm(out) * self["blk.0.ffn_norm"]
            gate = functional.silu(functional.linear(inner, self["blk.0.ffn_gate"]))
            out = out + functional.linear(gate * functional.linear(inner, self["blk.0.ffn_up"]), self["blk.0.ffn_down"])
            return functional.linear(norm(out) * self["output_norm"], self["output"]), out

    def norm(values: Any) -> Any:
        return values * torch.rsqrt(values.square().mean(-1, keepdim=True) + _EPS)

    def rotate(values: Any) -> Any:
        """Rotate neighbouring pairs by the position."""
        n = values.shape[-2]
        angle = torch.arange(n)[:, None] * _BASE ** (-torch.arange(0, HEAD, 2) / HEAD)
        a, b = values[..., 0::2], values[..., 1::2]
        return torch.stack([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], dim=-1).flatten(-2)

    def batch(some: list[dict[str, Any]]) -> tuple[Any, Any, Any]:
        """Tokens, rows and choices; a choice before the answer or behind its end counts nothing."""
        n = max(len(one["tokens"]) for one in some)
        tokens, chosen = torch.zeros(len(some), n, dtype=torch.long), torch.full((len(some), n), -100)
        rows = torch.zeros(len(some), n, len(LAYERS) * WIDTH)
        for i, one in enumerate(some):
            size = len(one["tokens"])
            tokens[i, :size], rows[i, :size] = torch.from_numpy(one["tokens"]), torch.from_numpy(one["rows"]).float()
            labels = place[torch.from_numpy(one["chosen"])]
            chosen[i, one["begin"] - 1 : size] = labels[one["begin"] - 1 :]
        return tokens, rows, chosen

    def steps(head: Head, tokens: Any, rows: Any, chosen: Any) -> Iterator[tuple[Any, Any]]:
        """Logits and choices at each guess: the first reads the target's rows, later ones the head's own."""
        state = head.encode(rows[:, :-1])
        for _ in range(STEPS):
            logits, out = head(tokens[:, 1:], state)
            yield logits, chosen[:, 1:]
            state = torch.cat([state[:, :1], out[:, :-1]], dim=1)

    def report(head: Head) -> str:
        with torch.no_grad():
            seen = batch(held_out)
            shares = [
                float((logits.argmax(-1) == labels)[labels >= 0].float().mean())
                for logits, labels in steps(head, *seen)
            ]
        return " ".join(f"{share:.3f}" for share in shares)

    head = Head()
    optimizer = torch.optim.AdamW(head.parameters(), lr=2e-3, betas=(0.9, 0.95), weight_decay=0.01)
    dice, begun, done, number = np.random.default_rng(seed), time.process_time(), 0.0, 0
    while done < 1:
        some = [answers[i] for i in dice.choice(len(answers), ROWS, replace=False)]
        loss = sum(
            0.8**k * functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100)
            for k, (logits, labels) in enumerate(steps(head, *batch(some)))
        )
        for group in optimizer.param_groups:
            group["lr"] = (
                2e-3 * min(1, (number + 1) / 50) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1, done))))
            )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimizer.step()
        done, number = (time.process_time() - begun) / 60 / minutes, number + 1
        if number % 100 == 0:
            print(f"{number} {done:.2f} {float(loss.detach()):.3f} right at each guess: {report(head)}", flush=True)
    print(f"right at each guess: {report(head)}")
    write(work / "eagle3.gguf", {name: head.tensors[name.replace(".", "/")].detach().numpy() for name in shapes()}, ids)
    with torch.no_grad():
        guesses = []
        for one in held_out:
            tokens, rows, chosen = batch([one])
            logits, _ = next(iter(steps(head, tokens, rows, chosen)))
            guesses.append(ids[logits[0].argmax(-1).numpy()])
    np.save(work / "guesses.npy", np.concatenate(guesses))


def shapes() -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors, outermost dimension first."""
    return {
        "fc.weight": (WIDTH, len(LAYERS) * WIDTH), "token_embd.weight": (TOKENS, WIDTH),
        "output_norm.weight": (WIDTH,), "output.weight": (PREDICTED, WIDTH),
        "blk.0.attn_norm.weight": (WIDTH,), "blk.0.attn_norm_2.weight": (WIDTH,),
        "blk.0.attn_q.weight": (HEADS * HEAD, 2 * WIDTH), "blk.0.attn_k.weight": (HEADS * HEAD, 2 * WIDTH),
        "blk.0.attn_v.weight": (HEADS * HEAD, 2 * WIDTH), "blk.0.attn_output.weight": (WIDTH, HEADS * HEAD),
        "blk.0.ffn_norm.weight": (WIDTH,), "blk.0.ffn_gate.weight": (FORWARD, WIDTH),
        "blk.0.ffn_up.weight": (FORWARD, WIDTH), "blk.0.ffn_down.weight": (WIDTH, FORWARD),
    }  # fmt: skip


def write(path: Path, tensors: dict[str, NDArray[np.float32]], ids: NDArray[np.int64]) -> None:
    """Write the head with the vocabulary of ``tiny``."""
    import gguf

    tiny = gguf.GGUFReader(Path(__file__).parents[2] / "localspec/models/builtin/tiny.gguf")
    writer = gguf.GGUFWriter(path, "eagle3")
    numbers = {
        "context_length": 4096, "embedding_length": WIDTH, "block_count": 1, "feed_forward_length": FORWARD,
        "attention.head_count": HEADS, "attention.head_count_kv": HEADS, "attention.key_length": HEAD,
        "attention.value_length": HEAD, "rope.dimension_count": HEAD, "target_hidden_size": WIDTH, "vocab_size": TOKENS,
    }  # fmt: skip
    for name, value in numbers.items():
        writer.add_uint32(f"eagle3.{name}", value)
    writer.add_float32("eagle3.attention.layer_norm_rms_epsilon", _EPS)
    writer.add_float32("eagle3.rope.freq_base", _BASE)
    writer.add_array("eagle3.target_layers", LAYERS)
    for key, field in tiny.fields.items():
        if key.startswith("tokenizer.ggml."):
            writer.add_key_value(key, field.contents(), *field.types)
    writer.add_tensor("d2t", ids.astype(np.int64), raw_dtype=gguf.GGMLQuantizationType.I64)
    for name, values in tensors.items():
        writer.add_tensor(name, np.ascontiguousarray(values, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def compare(work: Path) -> None:
    """Compare the first guess at every token of the answers that were held out."""
    from localspec.gguf.header import read_header
    from localspec.llama.context import LlamaContext
    from localspec.llama.heads import LlamaHeadContext
    from localspec.llama.model import LlamaModel
    from localspec.models.resolve import TINY_TARGET
    from localspec.params import ContextParams

    params = ContextParams(threads=1, batch=64)
    target = LlamaContext(LlamaModel(read_header(TINY_TARGET), params), params, 1024, input_layers=LAYERS)
    head = LlamaHeadContext(LlamaModel(read_header(work / "eagle3.gguf"), params), params, target)
    wanted, at, same, count = np.load(work / "guesses.npy"), 0, 0, 0
    for one in list(read(work))[-32:]:
        tokens = [int(token) for token in one["tokens"]]
        target.rewind(0)
        for start in range(0, len(tokens), 32):
            target.decode(tokens[start : start + 32], "none")
        for n in range(2, len(tokens) + 1):
            row = head.read(tokens[n - 1 : n] if n > 2 else tokens[:2], n - 1 if n > 2 else 0, goes_on=n > 2)
            same, count = same + int(row[0].argmax() == wanted[at + n - 2]), count + 1
        at += len(tokens) - 1
    print(f"{same} of {count} first guesses equal torch's")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("tiny-eagle"))
    parser.add_argument("--gather", action="store_true")
    parser.add_argument("--compare", action="store_true")
    parser.add_argument("--count", type=int, default=2000, help="answers to train on")
    parser.add_argument("--minutes", type=float, default=6)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    if args.gather:
        gather(args.work, args.count, args.seed)
    elif args.compare:
        compare(args.work)
    else:
        train(args.work, args.minutes, args.seed)


if __name__ == "__main__":
    main()
