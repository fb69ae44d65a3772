"""The chat templates of a checkpoint.

Places are searched in the order of llama.cpp's converter: ``tokenizer_config.json``, ``chat_template.jinja`` (with
``additional_chat_templates/*.jinja`` beside it), ``chat_template.json``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from gguf_convert.checkpoint.json_fields import Fields, read_json_object, shorten
from gguf_convert.tokenizer.vocabulary import ChatTemplates
from localspec.errors import ConvertError

_DEFAULT = "default"


def read_templates(folder: Path, settings: Fields) -> ChatTemplates:
    """Read the templates of a checkpoint folder; ``settings`` is its ``tokenizer_config.json``.

    Raises ConvertError for a template that is not text.
    """
    found = settings.values.get("chat_template")
    if found is None and (folder / "chat_template.jinja").is_file():
        more = sorted((folder / "additional_chat_templates").glob("*.jinja"))
        return _templates(
            {_DEFAULT: _text(folder / "chat_template.jinja"), **{path.stem: _text(path) for path in more}}
        )
    if found is None and (folder / "chat_template.json").is_file():
        found = read_json_object(folder / "chat_template.json").values.get("chat_template")
    return _templates(_by_name(found))


def _by_name(found: Any) -> dict[str, Any]:
    if isinstance(found, list):
        entries = [entry for entry in found if isinstance(entry, dict) and isinstance(entry.get("name"), str)]
        return {entry["name"]: entry.get("template") for entry in entries}
    if isinstance(found, dict):
        return found
    return {} if found is None else {_DEFAULT: found}


def _templates(found: dict[str, Any]) -> ChatTemplates:
    for template in found.values():
        if not isinstance(template, str):
            raise ConvertError(f"The chat template is {shorten(template)}: expected text.")
    # the name becomes part of a GGUF key
    named = {re.sub(r"[^a-zA-Z0-9]", "_", name): text for name, text in found.items() if name and name != _DEFAULT}
    return ChatTemplates(found.get(_DEFAULT), named)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConvertError(f"Cannot read {path} as UTF-8 text.") from error
