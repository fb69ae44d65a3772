"""Options of the prompt: ``-p``, ``-f``, ``--messages``, ``--system``, ``--image`` and ``--audio``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from localspec.cli.input.messages import MessageDict, read_messages, require_question
from localspec.cli.input.text import argument, read_prompt, source_name
from localspec.cli.options.bundle import bundle
from localspec.cli.options.values import FileName

if TYPE_CHECKING:
    from localspec.media.source import Media


@dataclass(frozen=True)
class PromptOptions:
    """Source of the prompt; at most one of ``prompt``, ``file`` and ``messages``.

    ``continued``: the last message of ``messages`` is continued. ``images`` and ``audios``: files that go before the
    prompt.
    """

    prompt: str | None
    file: str | None
    messages: str | None
    system: str | None
    continued: bool = False
    images: tuple[str, ...] = ()
    audios: tuple[str, ...] = ()

    @classmethod
    def from_flags(cls, **values: Any) -> PromptOptions:
        """From the values of the options. A default system message is left out where none is allowed."""
        context = click.get_current_context()
        given = context.get_parameter_source("system") is ParameterSource.COMMANDLINE
        alone = values["messages"] is not None or context.params.get("raw") or context.params.get("jsonl")
        return cls(**{**values, "system": None}) if alone and not given else cls(**values)

    def given(self) -> list[str]:
        """The flags that give a prompt."""
        flags = {"-p": self.prompt, "-f": self.file, "--messages": self.messages}
        return [flag for flag, value in flags.items() if value is not None]

    def require_one(self) -> None:
        """Raise UsageError if more than one flag gives a prompt, or ``--system`` is beside ``--messages``."""
        if len(self.given()) > 1:
            raise click.UsageError(f"{' and '.join(self.given())} both give a prompt; keep one.")
        if self.messages is not None and self.system is not None:
            raise click.UsageError("--messages is the whole conversation; leave out --system.")
        if self.continued and self.messages is None:
            raise click.UsageError("--continue continues the last message of --messages; add it.")
        if self.messages is not None and (self.images or self.audios):
            raise click.UsageError("--messages is the whole conversation; put pictures and sounds into its contents.")

    def media(self) -> list[Media]:
        """The pictures and sounds, read. Raises :class:`InputError`."""
        if not self.images and not self.audios:
            return []
        from localspec.media.source import Audio, Image

        return [*(Image(name) for name in self.images), *(Audio(name) for name in self.audios)]

    def text(self) -> str | None:
        """The text of ``-p`` or ``-f``, if one is given."""
        if self.prompt is not None:
            return argument(self.prompt, "the prompt of -p")
        return None if self.file is None else read_prompt(self.file)

    def system_messages(self) -> list[MessageDict]:
        """The system message as a list of at most one."""
        return [{"role": "system", "content": argument(self.system, "--system")}] if self.system else []

    def to_answer(self, raw: bool) -> str | list[MessageDict]:
        """The one prompt to answer: a text if ``raw``, else messages. Without a flag it is standard input."""
        self.require_one()
        if raw:
            flags = {
                "--messages": self.messages,
                "--system": self.system,
                "--image": self.images,
                "--audio": self.audios,
            }
            for flag, value in flags.items():
                if value:
                    raise click.UsageError(f"{flag} needs the chat template; leave out --raw.")
        if self.messages is not None:
            source = source_name(self.messages)
            return require_question(read_messages(self.messages), source, continued=self.continued)
        if not self.given() and sys.stdin.isatty():
            raise click.UsageError("there is no prompt; give one with -p TEXT, -f FILE, or on standard input.")
        text = self.text() if self.given() else read_prompt("-")
        if not text or not (raw or text.strip()):
            raise click.UsageError("the prompt is empty; give some text with -p, -f or standard input.")
        if raw:
            return text
        from localspec.media.parts import content_with

        return [*self.system_messages(), {"role": "user", "content": content_with(self.media(), text)}]


prompt_options = bundle(
    "source",
    PromptOptions.from_flags,
    {
        "prompt": click.option("-p", "--prompt", metavar="TEXT", help="The prompt."),
        "file": click.option(
            "-f", "--file", type=FileName(), metavar="FILE", help="Read the prompt from FILE; - is standard input."
        ),
        "messages": click.option(
            "--messages",
            type=FileName(),
            metavar="FILE",
            help='Read the prompt as a JSON list of {"role", "content"}; - is standard input.',
        ),
        "continued": click.option(
            "--continue",
            "continued",
            is_flag=True,
            help="Continue the last message of --messages, the assistant's.",
        ),
        "images": click.option(
            "--image",
            "images",
            type=FileName(),
            multiple=True,
            metavar="FILE",
            help="A picture (PNG, JPEG) that goes before the prompt. May be given again.",
        ),
        "audios": click.option(
            "--audio",
            "audios",
            type=FileName(),
            multiple=True,
            metavar="FILE",
            help="A sound (WAV, MP3, FLAC) that goes before the prompt. May be given again.",
        ),
        "system": click.option("--system", metavar="TEXT", help="System message, put before the prompt."),
    },
    not_settings=("prompt", "file", "messages", "continued", "images", "audios"),
)
