"""Small tokenizers of the families' own kinds, trained on Python's own sources: patterns and surroundings are real."""

from __future__ import annotations

import glob
import json
import os
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + _REST
_LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + _REST
_TEMPLATE = "{% for m in messages %}START{{ m['role'] }}\n{{ m['content'] }}END\n{% endfor %}"
_SPARE = 4  # rows of the embedding without a token, as Qwen's have


def gemma3(vocabulary: int) -> PreTrainedTokenizerFast:
    """Pieces in order of score, and as merges every way to split a piece; runs of spaces and line breaks first."""
    trainer = Tokenizer(models.BPE())
    trainer.normalizer = normalizers.Replace(" ", "▁")
    trainer.pre_tokenizer = pre_tokenizers.Split(Regex(r"▁?[^▁\s]+|\s|▁"), "isolated")
    trainer.train_from_iterator(_sources(), trainers.BpeTrainer(vocab_size=400, limit_alphabet=48, show_progress=False))
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<start_of_turn>", "<end_of_turn>"]
    runs = ["\n\n", "▁▁", "▁▁▁", "▁▁▁▁"]
    model = json.loads(trainer.to_str())["model"]
    letters = [text for text in model["vocab"] if len(text) == 1]
    first = [*special, *runs, *(f"<0x{i:02X}>" for i in range(256)), *letters]
    pieces = [left + right for left, right in model["merges"]][: vocabulary - _SPARE - len(first)]
    known = {*letters, *runs, *pieces}
    merges = [
        (text[:cut], text[cut:])
        for text in (*runs, *pieces)
        for cut in range(1, len(text))
        if text[:cut] in known and text[cut:] in known
    ]
    vocab = {text: index for index, text in enumerate([*first, *pieces])}
    tokenizer = Tokenizer(models.BPE(vocab, merges, byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(special)
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in runs])
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 2)])
    names = {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>"}
    return _wrapped(tokenizer, "<start_of_turn>", "<end_of_turn>", **names)


def qwen2(vocabulary: int) -> PreTrainedTokenizerFast:
    """No BOS; NFC first; special tokens behind the others."""
    tokenizer = _trained(_split(_QWEN2), vocabulary, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return _wrapped(tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def llama3(vocabulary: int) -> PreTrainedTokenizerFast:
    """A BOS before every text; whole words before merges."""
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]
    tokenizer = _trained(_split(_LLAMA3), vocabulary, special, ignore_merges=True)
    bos = special[0]
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=True),
            processors.TemplateProcessing(
                single=f"{bos} $A",
                pair=f"{bos} $A {bos}:1 $B:1",
                special_tokens=[(bos, tokenizer.token_to_id(bos))],
            ),
        ]
    )
    return _wrapped(tokenizer, "", "<|eot_id|>", bos_token=bos, eos_token="<|eot_id|>")


def smollm2(vocabulary: int) -> PreTrainedTokenizerFast:
    """GPT-2's pattern behind single digits; special tokens first."""
    steps = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = _trained(steps, vocabulary, special, first=True)
    return _wrapped(tokenizer, bos_token="<|im_start|>", eos_token="<|im_end|>", pad_token="<|im_end|>")


def smollm3(vocabulary: int) -> PreTrainedTokenizerFast:
    """Llama 3's, without a BOS."""
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = _trained(_split(_LLAMA3), vocabulary, special, ignore_merges=True)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    return _wrapped(tokenizer, eos_token="<|im_end|>", pad_token="<|im_end|>")


def _split(pattern: str) -> Any:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def _trained(
    steps: Any, vocabulary: int, special: list[str], *, first: bool = False, ignore_merges: bool = False
) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = steps
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - _SPARE - (0 if first else len(special)),
        special_tokens=special if first else [],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_sources(), trainer)
    tokenizer.add_special_tokens(special)
    return tokenizer


def _sources() -> list[str]:
    names = sorted(glob.glob(os.path.join(os.path.dirname(os.__file__), "*.py")))[:20]
    return [Path(name).read_text(encoding="utf-8", errors="ignore") for name in names]


def _wrapped(
    tokenizer: Tokenizer, start: str = "<|im_start|>", end: str = "<|im_end|>", **special: str
) -> PreTrainedTokenizerFast:
    template = _TEMPLATE.replace("START", start).replace("END", end)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=template, **special)
