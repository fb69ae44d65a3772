"""Make the stored tokenizers of ``tests/gguf_convert/reference/tokenizers``, and their ids for the mixed text.

    python -m scripts.convert.make_tokenizer_references

Needs the ``tokenizers`` library, which the project itself does without. Vocabularies are small and trained here;
normalizers, pre-tokenizers, post-processors, decoders and the flags of the special tokens are those of the published
tokenizers (Gemma 3 and 4, Qwen 2.5 and 3, Llama 3, SmolLM 2 and 3).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "tests/gguf_convert/reference/tokenizers"

from tests.helpers import mixed_text  # noqa: E402

CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + REST
LLAMA3 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + REST

Json = dict[str, Any]


def corpus() -> list[str]:
    """Text to train on: this repository, and the sentences of the mixed text."""
    files = sorted([*ROOT.glob("*/*.py"), *ROOT.glob("*/*.md"), *ROOT.glob("*.md")])
    texts = [path.read_text(encoding="utf-8") for path in files[:60]]
    return [*texts, *(mixed_text.SENTENCES * 20), *(mixed_text.CODE * 20), *(mixed_text.EMOJI * 5)]


def trained(pre: Json | None, alphabet: Sequence[str], size: int) -> Tokenizer:
    """A BPE tokenizer trained with the pre-tokenizer of a published one."""
    tokenizer = Tokenizer(models.BPE())
    if pre is not None:
        state = json.loads(tokenizer.to_str()) | {"pre_tokenizer": pre}
        tokenizer = Tokenizer.from_str(json.dumps(state))
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=list(alphabet), show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    return tokenizer


def split(pattern: str) -> Json:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def byte_level(**changes: bool) -> Json:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False, **changes}


def sequence(*steps: Json) -> Json:
    return {"type": "Sequence", "pretokenizers": list(steps)}


def template(token: str, index: int) -> Json:
    first = {"SpecialToken": {"id": token, "type_id": 0}}
    piece = {"Sequence": {"id": "A", "type_id": 0}}
    second = [{"SpecialToken": {"id": token, "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}]
    special = {token: {"id": token, "ids": [index], "tokens": [token]}}
    return {
        "type": "TemplateProcessing",
        "single": [first, piece],
        "pair": [first, piece, *second],
        "special_tokens": special,
    }


def added_tokens(texts: Sequence[str], first: int, plain: Sequence[str]) -> list[Json]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return [{"id": first + i, "content": text, **flags, "special": text not in plain} for i, text in enumerate(texts)]


def over_bytes(
    pre: Json, special: Sequence[str], plain: Sequence[str] = (), *, normalizer: Json | None = None,
    post: Json | None = None, bos: str | None = None, ignore_merges: bool = False, first: bool = False,
) -> Json:  # fmt: skip
    """A byte-level tokenizer.json; ``first``: special tokens have the lowest ids and stand in the vocabulary."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    model = json.loads(trained(pre, alphabet, 1400).to_str())["model"]
    vocab: dict[str, int] = model["vocab"]
    merges = model["merges"]
    if ignore_merges:  # as in Llama 3, some words are tokens that no merge makes
        merges = [merge for i, merge in enumerate(merges) if i < 700 or i % 9]
        made = {left + right for left, right in merges}
        merges = [merge for merge in merges if all(len(part) == 1 or part in made for part in merge)]
    if first:
        vocab = {text: i for i, text in enumerate((*special, *vocab))}
    added = added_tokens(special, 0 if first else len(vocab), plain)
    ids = {token["content"]: token["id"] for token in added}
    if bos is not None:
        steps = [byte_level(add_prefix_space=True, use_regex=True), template(bos, ids[bos])]
        post = {"type": "Sequence", "processors": steps}
    model |= {"vocab": vocab, "merges": merges, "ignore_merges": ignore_merges}
    decoder = byte_level(add_prefix_space=True, trim_offsets=True, use_regex=True)
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": normalizer,
        "pre_tokenizer": pre, "post_processor": post, "decoder": decoder, "model": model,
    }  # fmt: skip


def over_spaces(special: Sequence[str], plain: Sequence[str], bos: str | None) -> Json:
    """A Gemma tokenizer.json: the pieces in order of score, and as merges every way to split a piece."""
    trainer = Tokenizer(models.BPE())
    state = json.loads(trainer.to_str())
    state["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    state["pre_tokenizer"] = split(r"▁?[^▁\s]{1,12}|\s|▁")
    trainer = Tokenizer.from_str(json.dumps(state))
    settings = trainers.BpeTrainer(vocab_size=1800, limit_alphabet=400, show_progress=False)
    trainer.train_from_iterator(corpus(), settings)
    model = json.loads(trainer.to_str())["model"]
    runs = [char * n for char in ("\n", "▁", "\t") for n in range(2, 32)]
    pieces = [a + b for a, b in model["merges"] if "\n" not in a + b and (a + b).strip("▁\t")]
    pieces += [text for text in ("</", "</s", "</s>") if text not in special]  # ordinary text in Gemma 4
    letters = [text for text in model["vocab"] if len(text) == 1]
    numbers = [f"<0x{i:02X}>" for i in range(256)]
    texts = [*special, *runs, *numbers, *dict.fromkeys(pieces), *letters]
    vocab = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    joined = dict.fromkeys(runs, 0) | {text: -i for i, text in enumerate(dict.fromkeys(pieces))}
    known = set(joined) | set(letters)
    merges = [
        (text[:cut], text[cut:])
        for text in joined
        for cut in range(1, len(text))
        if text[:cut] in known and text[cut:] in known
    ]
    merges.sort(key=lambda pair: (joined["".join(pair)], len(pair[0]), len(pair[1])), reverse=True)
    ids = [vocab[text] for text in (*special, *runs)]
    added = added_tokens((*special, *runs), 0, (*plain, *runs))
    assert ids == [token["id"] for token in added]
    model |= {"vocab": vocab, "merges": [list(pair) for pair in merges], "byte_fallback": True, "fuse_unk": True}
    model["unk_token"] = "<unk>"
    steps = [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    empty = {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}],
             "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
             "special_tokens": {}}  # fmt: skip
    cut = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": state["normalizer"], "pre_tokenizer": cut,
        "post_processor": empty if bos is None else template(bos, vocab[bos]),
        "decoder": {"type": "Sequence", "decoders": steps}, "model": model,
    }  # fmt: skip


QWEN2_SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<tool_call>", "</tool_call>",
    "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>",
)  # fmt: skip
QWEN2_PLAIN = QWEN2_SPECIAL[4:]
THOUGHT = ("<tool_response>", "</tool_response>", "<think>", "</think>")
LLAMA3_SPECIAL = (
    "<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|start_header_id|>",
    "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>", "<|python_tag|>",
)  # fmt: skip
SMOLLM2_SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<reponame>", "<file_sep>", "<filename>",
    "<gh_stars>", "<issue_start>", "<empty_output>",
)  # fmt: skip
SMOLLM3_SPECIAL = (*LLAMA3_SPECIAL[:2], "<think>", "</think>", "<|im_start|>", "<|im_end|>", "<tool_call>")
GEMMA = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")
GEMMA3_SPECIAL = (*GEMMA, "[multimodal]", "<unused0>", "<start_of_turn>", "<end_of_turn>", "<table>", "</s>", "<code>")
GEMMA3_PLAIN = ("<mask>", "[multimodal]", "<unused0>", "<table>", "</s>", "<code>")
CHANNELS = ("<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>", '<|"|>')
GEMMA4_SPECIAL = (*GEMMA, "<|turn>", "<turn|>", *CHANNELS, "<|image|>")

QWEN_PRE = sequence(split(QWEN), byte_level())
LLAMA3_PRE = sequence(split(LLAMA3), byte_level(trim_offsets=True))
SMOLLM_PRE = sequence({"type": "Digits", "individual_digits": True}, byte_level(trim_offsets=True, use_regex=True))


def kinds() -> dict[str, tuple[str, Json, Json, Json]]:
    """Name → (architecture, tokenizer.json, tokenizer_config.json, generation_config.json or ids for config.json)."""
    nfc = {"type": "NFC"}
    chatml = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    llama = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"}
    gemma = {"bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>"}
    qwen2 = over_bytes(QWEN_PRE, QWEN2_SPECIAL, QWEN2_PLAIN, normalizer=nfc, post=byte_level())
    qwen3 = over_bytes(
        QWEN_PRE, (*QWEN2_SPECIAL, *THOUGHT), (*QWEN2_PLAIN, *THOUGHT), normalizer=nfc, post=byte_level()
    )
    llama3 = over_bytes(LLAMA3_PRE, LLAMA3_SPECIAL, bos="<|begin_of_text|>", ignore_merges=True)
    smollm2 = over_bytes(SMOLLM_PRE, SMOLLM2_SPECIAL, first=True)
    smollm3 = over_bytes(
        LLAMA3_PRE, SMOLLM3_SPECIAL, ("<think>", "</think>", "<tool_call>"), bos="<|begin_of_text|>", ignore_merges=True
    )
    none: Json = {"bos_token": None, "add_bos_token": False}
    return {
        "gemma3": ("Gemma3ForCausalLM", over_spaces(GEMMA3_SPECIAL, GEMMA3_PLAIN, "<bos>"), gemma, {}),
        "gemma4": ("Gemma4ForCausalLM", over_spaces(GEMMA4_SPECIAL, (), None), gemma, {}),
        "qwen2": ("Qwen2ForCausalLM", qwen2, chatml | none, {"bos": "<|endoftext|>"}),
        "qwen3": ("Qwen3ForCausalLM", qwen3, chatml | none, {"bos": "<|endoftext|>"}),
        "llama3": ("LlamaForCausalLM", llama3, llama, {}),
        "smollm2": ("LlamaForCausalLM", smollm2, chatml | {"bos_token": "<|im_start|>"}, {}),
        "smollm3": ("SmolLM3ForCausalLM", smollm3, {"bos_token": None, "eos_token": "<|im_end|>"}, {}),
    }


def main() -> None:
    AddedToken("x")  # fails early if the library is another one
    for name, (architecture, tokenizer, settings, config) in kinds().items():
        folder = OUT / name
        folder.mkdir(parents=True, exist_ok=True)
        model = Tokenizer.from_str(json.dumps(tokenizer))
        ids = {f"{key}_token_id": model.token_to_id(text) for key, text in config.items()}
        write(folder / "tokenizer.json", tokenizer)
        write(folder / "tokenizer_config.json", settings)
        write(folder / "config.json", {"architectures": [architecture], **ids})
        lines = mixed_text.lines(mixed_text.special_tokens(tokenizer))
        encoded = [model.encode(text, add_special_tokens=False).ids for text in lines]
        flat = np.array([token for line in encoded for token in line], dtype=np.uint16)
        lengths = np.array([len(line) for line in encoded], dtype=np.uint16)
        framed = np.array(model.encode(mixed_text.FRAMED).ids, dtype=np.uint16)
        np.savez_compressed(folder / "ids.npz", ids=flat, lengths=lengths, framed=framed)
        print(f"{name}: {model.get_vocab_size()} tokens, {len(flat)} ids")


def write(path: Path, value: Json) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
