"""The chat template that a user chooses in place of the model's: a built-in one, a file, or its text."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from localspec.chat.builtin_templates import BUILTIN, BuiltinTemplate
from localspec.chat.template import ChatTemplate
from localspec.errors import InputError, TemplateError, UsageError
from localspec.protocols import Vocabulary

#: Most bytes of a template's file; the longest published ones have some 20 KB.
_MOST_BYTES = 1 << 20
_PROBE = "localspec asks"


@dataclass(frozen=True)
class ChosenTemplate:
    """A template and its name in messages. ``openings``: one template for each kind of model, if they differ."""

    name: str
    templates: tuple[BuiltinTemplate, ...]

    def pick(self, vocabulary: Vocabulary) -> tuple[str, str | None]:
        """The source for a model, and a notice if its vocabulary does not have the token that opens a turn."""
        for template in self.templates:
            if not template.opening or _is_token(vocabulary, template.opening):
                return template.source, None
        last = self.templates[-1]
        return last.source, (
            f"The model has no token {last.opening}, so it was not trained with the chat template {self.name}: "
            "answers may be poor and not end."
        )


def choose_template(choice: str | Path | None) -> ChosenTemplate | None:
    """The template of a name, a path, or a text with Jinja's brackets; None for None.

    Raises :class:`UsageError` for other values, :class:`InputError` for a file that cannot be read or is no template,
    and :class:`TemplateError` for one that cannot be parsed.
    """
    if choice is None:
        return None
    if not isinstance(choice, (str, Path)):
        raise UsageError(f"chat_template is {choice!r:.40}; it must be {', '.join(BUILTIN)} or a path.")
    if isinstance(choice, str) and choice in BUILTIN:
        return ChosenTemplate(choice, BUILTIN[choice])
    is_text = isinstance(choice, str) and ("{{" in choice or "{%" in choice)
    name, source = ("given", str(choice)) if is_text else (str(choice), _read(Path(choice)))
    _check(name, ChatTemplate(source, name=f"the chat template {name}"))
    return ChosenTemplate(name, (BuiltinTemplate("", source),))


def _check(name: str, template: ChatTemplate) -> None:
    """Raise :class:`InputError` if ``template`` writes no messages, as any text that is no template does not."""
    with suppress(TemplateError):  # some take no lone question
        if _PROBE not in template.render([{"role": "user", "content": _PROBE}]):
            raise InputError(f"{name} is no chat template, because it does not write the messages; give a Jinja file.")


def _read(path: Path) -> str:
    known = f"give a Jinja file, or choose {', '.join(BUILTIN)}"
    try:
        with path.open("rb") as stream:
            data = stream.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        raise InputError(f"there is no chat template {path}; {known}.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"the chat template {path} cannot be read ({reason}); {known}.") from None
    if len(data) > _MOST_BYTES:
        raise InputError(f"{path} has more than {_MOST_BYTES >> 20} MiB and is no chat template; {known}.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"the chat template {path} is not valid UTF-8 at byte {error.start}; {known}.") from None


def _is_token(vocabulary: Vocabulary, text: str) -> bool:
    return len(vocabulary.tokenize(text, add_special=False)) == 1
