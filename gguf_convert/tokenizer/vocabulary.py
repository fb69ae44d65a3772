"""The ``tokenizer.*`` metadata of a GGUF file, with which llama.cpp tokenises as the checkpoint's tokenizer does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: Types of tokens (llama.cpp, ``enum llama_token_type``).
NORMAL, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 3, 4, 5, 6


@dataclass(frozen=True)
class ChatTemplates:
    """Jinja templates: the default one, and others by name (such as ``tool_use``)."""

    default: str | None = None
    named: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class GgufVocabulary:
    """Tokens and their types by id, merges as ``"left right"`` (empty if scores decide), and special tokens.

    ``settings`` are the keys below ``tokenizer.ggml.`` that depend on the kind of tokenizer. ``special`` maps a part
    of a GGUF key (``bos``, ``unknown``, …) to a token id. ``suppress`` lists ids that must not be sampled. ``notes``
    are sentences about differences between llama.cpp and transformers.
    """

    settings: Mapping[str, Any]
    tokens: tuple[str, ...]
    types: tuple[int, ...]
    merges: tuple[str, ...]
    special: Mapping[str, int]
    templates: ChatTemplates
    suppress: tuple[int, ...]
    notes: tuple[str, ...] = ()

    def metadata(self) -> dict[str, Any]:
        """Return the ``tokenizer.*`` keys of the GGUF file."""
        parts: dict[str, Any] = {
            **self.settings,
            "tokens": list(self.tokens),
            "token_type": list(self.types),
            **({"merges": list(self.merges)} if self.merges else {}),
            **{f"{part}_token_id": token for part, token in self.special.items()},
        }
        if self.suppress:
            parts["suppress_tokens"] = list(self.suppress)
        keys = {f"tokenizer.ggml.{part}": value for part, value in parts.items()}
        if self.templates.default:
            keys["tokenizer.chat_template"] = self.templates.default
        if self.templates.named:
            keys["tokenizer.chat_templates"] = list(self.templates.named)
            keys.update({f"tokenizer.chat_template.{name}": text for name, text in self.templates.named.items()})
        return keys
