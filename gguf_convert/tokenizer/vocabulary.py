"""The vocabulary part of a GGUF file: what llama.cpp needs to tokenise as the checkpoint's tokenizer does.

The id of every token is what it is in the checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

NORMAL, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 3, 4, 5, 6  # llama_token_type


@dataclass(frozen=True)
class ChatTemplates:
    """Jinja texts: the default one, and others by name (such as ``tool_use``)."""

    default: str | None = None
    named: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Vocabulary:
    """Tokens by id with their types, merges as ``"left right"`` (none where scores decide), and what surrounds them.

    ``settings`` are the keys below ``tokenizer.ggml.`` that depend on the kind of tokenizer. ``special`` maps a part
    of a GGUF key (``bos``, ``unknown``, …) to a token id; ``suppress`` lists ids that are never to be sampled;
    ``notes`` says where llama.cpp will behave differently from transformers.
    """

    settings: Mapping[str, Any]
    tokens: tuple[str, ...]
    types: tuple[int, ...]
    merges: tuple[str, ...]
    special: Mapping[str, int]
    templates: ChatTemplates
    suppress: tuple[int, ...]
    notes: tuple[str, ...] = ()

    @property
    def chat_template(self) -> str | None:
        """The default chat template."""
        return self.templates.default

    def metadata(self) -> dict[str, Any]:
        """The ``tokenizer.*`` keys of the GGUF file."""
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
