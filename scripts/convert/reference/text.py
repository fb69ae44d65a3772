"""Varied text for 200 tokens, and a small tokenizer of Gemma 4's kind trained on nothing but Python's own sources."""

from __future__ import annotations

import glob
import json
import os
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

TOKENS = 200
SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<|turn>", "<turn|>", "<|channel>", "<channel|>"]
VARIED = (
    "<|turn>user\nWhy is the sky blue?<turn|>\n"
    "for path in names:\n    if not path:\n        continue\n\n"
    "naïve café, “so” — Привет 数学 नम سلام שלום 🎉\n"
    '\t{"x": [1, 2.5e-3, null]}  \r\n x² + y² \x01\x7f\n'
    "<|channel>thought\n<channel|>Because shorter waves scatter more, the light that reaches us is blue.<turn|>\n"
)
TEXTS = [
    "Hello, world!",
    " two  spaces   and more ",
    "def f(x):\n    return x\n\n\nprint(f(1))\n",
    "naïve café — “quoted” … 数学 🎉 \x00\x7f",
    "<|turn>user\nWhy?<turn|>\n<|turn>model\n<|channel>thought\n<channel|>Because.<turn|>",
    "\n",
    "\t\ttabs\r\nand\rreturns",
]
TEMPLATE = "{{ bos_token }}{% for m in messages %}<|turn>{{ m['role'] }}\n{{ m['content'] }}<turn|>\n{% endfor %}"


def make_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """BPE over ▁ with byte fallback, with a few ids less than ``vocabulary``: embeddings have rows without a token."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    # newlines are never merged with other text, as in Gemma's own vocabulary
    tokenizer.pre_tokenizer = pre_tokenizers.Split("\n", "isolated")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - 8,
        special_tokens=SPECIAL + [f"<0x{i:02X}>" for i in range(256)],
        limit_alphabet=30,
        show_progress=False,
    )
    sources = sorted(glob.glob(os.path.join(os.path.dirname(os.__file__), "*.py")))[:20]
    texts = [Path(name).read_text(encoding="utf-8", errors="ignore") for name in sources]
    tokenizer.train_from_iterator((line for text in texts for line in text.splitlines(keepends=True)), trainer)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer = _without_added_bytes(tokenizer)
    tokenizer.add_tokens([AddedToken("print", special=False, normalized=False)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
        pad_token="<pad>",
        mask_token="<mask>",
        chat_template=TEMPLATE,
    )


def _without_added_bytes(tokenizer: Tokenizer) -> Tokenizer:
    """The trainer knows no other way to keep them in the vocabulary; in Gemma's file they are no added tokens."""
    parts = json.loads(tokenizer.to_str())
    parts["added_tokens"] = [token for token in parts["added_tokens"] if not token["content"].startswith("<0x")]
    return Tokenizer.from_str(json.dumps(parts))


def varied_tokens(tokenizer: PreTrainedTokenizerFast) -> list[int]:
    """BOS and the first ids of ``VARIED``, repeated while there are less than ``TOKENS``."""
    ids = tokenizer.encode(VARIED, add_special_tokens=False)
    while len(ids) < TOKENS - 1:
        ids += ids
    return [tokenizer.bos_token_id, *ids[: TOKENS - 1]]
