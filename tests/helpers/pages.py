"""The pages of the documentation as data: their shell lines, Python blocks and links, and a folder in which they work.

In that folder the models that a page names are the built-in pair under another name, or made of the converter's small
references, and so are its checkpoints.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path

from localspec.models.recommended import RECOMMENDED
from localspec.models.resolve import TINY_ASSISTANT, TINY_TARGET
from tests.helpers.paths import DATA, REFERENCE, ROOT

PAGES = (
    "README.md",
    *(f"docs/{name}.md" for name in ("chat", "python", "serve", "convert", "pull", "offline", "tune")),
)
#: Those, and the pages without commands.
ALL_PAGES = ("README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")))
#: What is typed into a command.
TYPED = {"chat": "Tell me a story about a brave cat.\n"}

#: What is too much for models of 384 tokens.
_SMALLER = {"16384": "300"}
_TARGETS = ("big.gguf", "small.gguf")
_OF_QWEN = ("qwen-1.5b.gguf", "qwen-0.5b.gguf")
_WITH_TOOLS = "gemma-4-E4B-it-Q4_0.gguf"
_CHECKPOINTS = {
    "gemma-4-e2b-it": "gemma4_e2b",
    "gemma-4-e2b-it-assistant": "gemma4_e2b_assistant",
    "Qwen2.5-1.5B-Instruct": "qwen2_5_0_5b",
}
_QUESTION = {"role": "user", "content": "Tell me a story about a brave cat."}
_PERSON = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
_TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
_TEXT = "Once upon a time there was a brave cat named Tom. Tom lived in a small white house by the sea. "
_FILES = {
    "report.txt": _TEXT,
    "keys.txt": "a-key\n",
    "question.txt": "What colour is the sky?\n",
    "calibration.txt": _TEXT * 40,
    "prompts.jsonl": json.dumps({"id": "a", "messages": [_QUESTION]}) + "\n",
    "person.json": json.dumps(_PERSON),
    "tools.json": json.dumps([_TOOL]),
    "yes_or_no.gbnf": 'root ::= "yes" | "no"\n',
    "own.jinja": "{% for m in messages %}{{ m.role }}: {{ m.content }}\\n{% endfor %}",
    "notes/one.txt": _TEXT * 40,
}
_REPOSITORIES = {
    "unsloth/gemma-4-E4B-it-qat-GGUF": ("gemma-4-E4B-it-qat-UD-Q4_K_XL.gguf", "MTP/mtp-gemma-4-E4B-it-Q4_0.gguf"),
    "unsloth/gemma-4-E2B-it-qat-GGUF": ("gemma-4-E2B-it-qat-UD-Q4_K_XL.gguf", "MTP/mtp-gemma-4-E2B-it-Q4_0.gguf"),
    "unsloth/gemma-4-E4B-it-GGUF": (
        "gemma-4-E4B-it-Q4_K_M.gguf",
        "gemma-4-E4B-it-Q8_0.gguf",
        "MTP/mtp-gemma-4-E4B-it-Q8_0.gguf",
    ),
    "google/gemma-4-E2B-it-qat-q4_0-gguf": ("gemma-4-E2B_q4_0-it.gguf",),
}


@dataclass
class Call:
    """One program of a shell line: its words, and the programs that its standard input comes from."""

    words: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    source: Call | None = None
    """What is piped into it."""
    reads: str | None = None
    """The file after ``<``."""


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", text_of(page), re.DOTALL)


def lines(page: str) -> list[str]:
    """The shell lines in order, comments left out and continued lines joined."""
    found = [line for block in blocks(page, "sh") for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in (re.sub(r"(^|\s)#.*", "", line).strip() for line in found) if line]


def calls(line: str) -> list[Call]:
    """The programs of a shell line in order."""
    words = shlex.shlex(line, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    found = [Call()]
    rest: Iterator[str] = iter(words)
    for word in rest:
        if word == "|":
            found.append(Call(source=found[-1]))
        elif word in ("&&", ";"):
            found.append(Call())
        elif word == ">":
            next(rest)
        elif word == "<":
            found[-1].reads = next(rest)
        elif not found[-1].words and re.fullmatch(r"[A-Z_]+=.*", word):
            name, _, value = word.partition("=")
            found[-1].environment[name] = value
        else:
            found[-1].words.append(word)
    return found


def of_localspec(line: str) -> list[Call]:
    return [call for call in calls(line) if call.words and call.words[0] == "localspec"]


def on_the_hub(call: Call) -> bool:
    """True if a command needs models of the Hub, or shows pulled models."""
    from localspec.models.hub.names import parse_name

    command, *words = call.words[1:]
    values = [value for flag, value in pairwise(words) if flag in ("-m", "-d")]
    return command in ("pull", "list", "rm") or any(parse_name(value) is not None for value in values)


def smaller(line: str) -> str:
    """A shell line for small models."""
    return " ".join(_SMALLER.get(word, word) for word in line.split(" "))


def furnish(folder: Path) -> None:
    """Put in ``folder`` what the pages take for given; models with times of their own, so that they are remembered."""
    for name in _TARGETS:
        shutil.copy2(TINY_TARGET, folder / name)
    shutil.copy2(TINY_ASSISTANT, folder / f"mtp-{_WITH_TOOLS}")
    made = {_WITH_TOOLS: _tiny_with_tools(), **dict.fromkeys(_OF_QWEN, _trimmable())}
    for name, content in made.items():
        (folder / name).write_bytes(content)
        os.utime(folder / name, (0, 0))
    for name, reference in _CHECKPOINTS.items():
        shutil.copytree(REFERENCE / reference, folder / name)
    for name, text in _FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


@cache
def _trimmable() -> bytes:
    """A model with more tokens than are always kept."""
    import gguf_convert

    with tempfile.TemporaryDirectory() as folder:
        return gguf_convert.convert(REFERENCE / "gemma3_270m", Path(folder) / "made.gguf", "Q8_0").path.read_bytes()


@cache
def _tiny_with_tools() -> bytes:
    """The built-in target with the template of the real models, which takes tools."""
    from gguf import GGUFReader, GGUFValueType, GGUFWriter
    from gguf.scripts.gguf_new_metadata import MetadataDetails, copy_with_new_metadata

    template = (DATA / "gemma-4.jinja").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made.gguf"
        writer = GGUFWriter(made, "gemma4")
        changed = {"tokenizer.chat_template": MetadataDetails(GGUFValueType.STRING, template)}
        copy_with_new_metadata(GGUFReader(TINY_TARGET), writer, changed, [])
        return made.read_bytes()


def recommended_rows() -> list[str]:
    """The table of recommended pairs, smallest first, as Markdown."""
    return [
        f"| `{pair.target}` | {pair.download / 1e9:.1f} GB | {pair.needs / 1e9:.1f} GB | {pair.note} |"
        for pair in RECOMMENDED
        if not pair.built_in
    ]


def furnish_hub(folder: Path) -> None:
    """Put in ``folder`` the repositories that the pages name, as ``hub_server`` serves them."""
    for repo, files in _REPOSITORIES.items():
        for name in files:
            place = folder / repo / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(TINY_ASSISTANT if "mtp-" in name else TINY_TARGET, place)
