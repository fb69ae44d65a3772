"""llama.cpp's name for the pre-tokenizer of a byte-level tokenizer, which splits text into words.

llama.cpp has its pre-tokenizers built in, and a file names one of them. Its converter finds the name by a hash of the
ids of a sample text, which fails for an unknown vocabulary. Here the pattern is looked up, so every vocabulary with a
known pattern can be converted.
"""

from __future__ import annotations

from typing import Any

from gguf_convert.checkpoint.json_fields import Fields, shorten
from localspec.errors import ConvertError

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_QWEN2 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + _REST
_QWEN35 = (
    _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + _REST
_DIGIT = r"\p{N}"

#: (patterns in order of application, whole words looked up before merging) → ``tokenizer.ggml.pre`` (llama.cpp,
#: src/llama-vocab.cpp: llm_tokenizer_bpe for the patterns, llama_vocab::impl::load for the rest).
_NAMES = {
    ((_QWEN2,), False): "qwen2",
    ((_QWEN35,), False): "qwen35",
    ((_LLAMA3,), True): "llama-bpe",
    ((_LLAMA3,), False): "smaug-bpe",
    ((_DIGIT, _GPT2), False): "smollm",
    ((_GPT2,), False): "gpt-2",
}


def pre_tokenizer_name(tokenizer: Fields) -> str:
    """Return ``tokenizer.ggml.pre``; ConvertError for a pattern that llama.cpp does not have."""
    patterns = tuple(_patterns(tokenizer))
    ignore_merges = tokenizer.object("model").boolean("ignore_merges", False)
    name = _NAMES.get((patterns, ignore_merges))
    if name is None:
        known = ", ".join(sorted(set(_NAMES.values())))
        whole = " and whole words before merges" if ignore_merges else ""
        raise ConvertError(
            f"{tokenizer.where} splits words by {' then '.join(map(repr, patterns)) or 'no pattern'}{whole}; "
            f"only the patterns that llama.cpp calls {known} are supported."
        )
    return name


def _patterns(tokenizer: Fields) -> list[str]:
    """Return the regular expressions that split the text, in order; the last step must be a plain ``ByteLevel``."""
    steps = _flat(tokenizer.values.get("pre_tokenizer"))
    if not steps or steps[-1].get("type") != "ByteLevel" or steps[-1].get("add_prefix_space", True):
        raise ConvertError(
            f"{tokenizer.where} has the pre-tokenizer {shorten(tokenizer.values.get('pre_tokenizer'))}; "
            "for a BPE without byte fallback it must end in ByteLevel, without a prefix space."
        )
    patterns = [_pattern(tokenizer, step) for step in steps[:-1]]
    return [*patterns, _GPT2] if steps[-1].get("use_regex", True) else patterns


def _pattern(tokenizer: Fields, step: dict[str, Any]) -> str:
    if step.get("type") == "Digits" and step.get("individual_digits") is True:
        return _DIGIT
    pattern = step.get("pattern")
    regex = pattern.get("Regex") if isinstance(pattern, dict) else None
    # All known patterns match every character, so keeping the matches and removing the rest gives the same split.
    ways = (("Isolated", False), ("Removed", True))
    if (
        step.get("type") != "Split"
        or not isinstance(regex, str)
        or (step.get("behavior"), step.get("invert", False)) not in ways
    ):
        raise ConvertError(f"{tokenizer.where} has the pre-tokenizer {shorten(step)}, which llama.cpp does not have.")
    return regex.replace("\r", r"\r").replace("\n", r"\n")


def _flat(step: Any) -> list[dict[str, Any]]:
    if not isinstance(step, dict):
        return []
    if step.get("type") != "Sequence":
        return [step]
    inner = step.get("pretokenizers")
    return [entry for child in inner for entry in _flat(child)] if isinstance(inner, list) else []
