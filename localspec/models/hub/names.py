"""Names of models on the Hub: text to :class:`HubName`, without a listing or the disk.

A name is ``user/repo``, ``user/repo:Q4_K_M``, ``user/repo/folder/file.gguf``, an address of huggingface.co or hf.co, or
a short name of the Gemma 4 family: ``gemma-4-e2b``, ``gemma-4-12b-qat``, ``gemma-4-31b:Q8_0``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from localspec.errors import ModelNotFoundError

#: Sizes of the Gemma 4 family: short name to the spelling of its repositories.
GEMMA_4 = {"e2b": "E2B", "e4b": "E4B", "12b": "12B", "26b-a4b": "26B-A4B", "31b": "31B"}
#: unsloth's name for the weights that Google trained for 4 bits.
QAT_QUANT = "UD-Q4_K_XL"

_SHORT = re.compile(r"gemma-?4-(e2b|e4b|12b|26b-a4b|31b)(?:-it)?(-qat)?(?::(\w[\w.-]*))?", re.IGNORECASE)
_SIZE = re.compile(r"gemma[-_ ]?4[-_ ](e2b|e4b|12b|26b(?:[-_]a4b)?|31b)(?![a-z0-9])", re.IGNORECASE)
_ASSISTANTS = re.compile(r"gemma[-_]?4.*assistant", re.IGNORECASE)
_WITH_HEADS = re.compile(r"[a-z0-9][-_.]MTP(?![a-z0-9])", re.IGNORECASE)
_QWEN = re.compile(r"qwen[-_]?3\.[5-9]", re.IGNORECASE)
_ADDRESS = re.compile(r"(?:https?://)?(?:www\.)?(?:hf\.co|huggingface\.co)/(.*)|hf://(.*)", re.IGNORECASE)
_PART = r"(?!.*(?:--|\.\.))[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?"
_REPO = re.compile(rf"{_PART}/{_PART}")
_QUANT = re.compile(r"\w[\w.-]*")
#: First part of the Hub's addresses that are no models.
_OTHER_KINDS = ("datasets", "spaces", "collections", "papers", "docs", "blog", "models")


@dataclass(frozen=True)
class HubName:
    """A repository with an optional quant or file (its path in the repository)."""

    repo: str
    quant: str | None = None
    file: str | None = None

    def __str__(self) -> str:
        """The canonical name, which :func:`parse_name` reads back."""
        if self.file is not None:
            return f"{self.repo}/{self.file}"
        return f"{self.repo}:{self.quant}" if self.quant is not None else self.repo


def parse_name(text: str) -> HubName | None:
    """The name of a model on the Hub, None if ``text`` can only be a path.

    ``user/repo.gguf`` is a path: a file in a repository has at least three parts. ``:latest`` means no quant, as in
    Ollama; ``:file.gguf`` is a file. Raises :class:`ModelNotFoundError` for an address that is not a model's.
    """
    short = _SHORT.fullmatch(text)
    if short:
        return _gemma_4(short[1], short[2] is not None, _quant(short[3]))
    address = _ADDRESS.fullmatch(text)
    if address:
        return _parse_address(text, address[1] or address[2] or "")
    if "://" in text:
        raise ModelNotFoundError(f"{text!r} is no address of the Hub; give user/repo, or the path of a .gguf file.")
    return _parse_repository(text)


def _gemma_4(typed: str, qat: bool, quant: str | None) -> HubName:
    """unsloth's repository, which holds every quant and the drafter.

    A repository of weights trained for 4 bits also holds 2 bits, first in its listing, so the quant is named.
    """
    size = GEMMA_4[typed.lower()]
    if qat:
        return HubName(f"unsloth/gemma-4-{size}-it-qat-GGUF", quant or QAT_QUANT)
    return HubName(_unsloth(size), quant)


def _unsloth(size: str) -> str:
    return f"unsloth/gemma-4-{'12b' if size == '12B' else size}-it-GGUF"


def _parse_repository(text: str) -> HubName | None:
    repo, colon, quant = text.partition(":")
    if colon:
        if not _REPO.fullmatch(repo) or not _QUANT.fullmatch(quant):
            return None
        return HubName(repo, file=quant) if quant.lower().endswith(".gguf") else HubName(repo, _quant(quant))
    parts = text.split("/")
    repo, file = "/".join(parts[:2]), "/".join(parts[2:])
    if not _REPO.fullmatch(repo) or not text.isprintable() or "\\" in text:
        return None
    if not file:
        return HubName(repo) if len(parts) == 2 and not repo.lower().endswith(".gguf") else None
    if not file.lower().endswith(".gguf") or any(part in ("", ".", "..") for part in parts):
        return None
    return HubName(repo, file=file)


def exact_alternative(text: str) -> HubName | None:
    """Google's own file in Q4_0 for a short name of weights trained for 4 bits (``gemma-4-e2b-qat``), else None.

    All of its matrices have types whose rows are exact on a CPU; ``localspec pull`` looks at them before it takes it.
    """
    short = _SHORT.fullmatch(text)
    if short is None or short[2] is None or _quant(short[3]) is not None:
        return None
    return HubName(f"google/gemma-4-{GEMMA_4[short[1].lower()]}-it-qat-q4_0-gguf")


def _quant(tag: str | None) -> str | None:
    return None if tag is None or tag.lower() == "latest" else tag


def _parse_address(text: str, rest: str) -> HubName:
    """``rest`` follows the host in the address ``text``."""
    wrong = ModelNotFoundError(f"{text!r} is no address of a model on the Hub; give user/repo or user/repo/file.gguf.")
    parts = [unquote(part) for part in re.split(r"[?#]", rest, maxsplit=1)[0].strip("/").split("/")]
    if parts[0].lower() in _OTHER_KINDS:
        raise wrong
    if len(parts) > 2 and parts[2] in ("blob", "resolve", "raw", "tree"):
        folder = parts[2] == "tree"
        if len(parts) > 3 and parts[3] != "main":
            raise ModelNotFoundError(
                f"{text!r} is of the revision {parts[3]!r}, and localspec takes the newest (main); "
                f"give {'/'.join([*parts[:2], *([] if folder else parts[4:])])}."
            )
        parts = parts[:2] if folder else [*parts[:2], *parts[4:]]
    name = _parse_repository("/".join(parts))
    if name is None:
        raise wrong
    return name


def gemma_4_size(text: str) -> str | None:
    """The size of a Gemma 4 model in a name (``E4B``), None if there is none."""
    found = _SIZE.search(text)
    if not found:
        return None
    size = found[1].lower().replace("_", "-")
    return GEMMA_4["26b-a4b" if size.startswith("26b") else size]


def names_heads(name: str) -> bool:
    """True if a repository or file is named after the prediction heads in its models (``Qwen3.5-4B-MTP-GGUF``)."""
    return _WITH_HEADS.search(name.rpartition("/")[2]) is not None


def is_drafter_repository(repo: str) -> bool:
    """True if every model in the repository is an assistant, whatever the names of its files."""
    return _ASSISTANTS.search(repo) is not None


def drafter_repositories(name: HubName) -> tuple[str, ...]:
    """Other repositories that may hold a drafter for a target, best first; empty if none is known.

    For weights trained for 4 bits (``qat``) the drafter that was trained with them comes first: the acceptance rate of
    others is much lower. Google's safetensors, for which :func:`needs_converting` is True, come last. Repositories of
    assistants alone by other people are left out: most were made for a fork whose files llama.cpp cannot read.
    """
    whole = f"{name.repo}/{name.file or ''}"
    size = gemma_4_size(whole)
    named = names_heads(name.repo) or names_heads(name.file or "")
    if size is None and _QWEN.search(name.repo) and name.repo.upper().endswith("-GGUF") and not named:
        return (f"{name.repo[: -len('-GGUF')]}-MTP-GGUF",)  # heads in a file of their own
    if size is None:
        return ()
    plain = (f"ggml-org/gemma-4-{size}-it-GGUF", _unsloth(size), f"bartowski/google_gemma-4-{size}-it-GGUF")
    known: tuple[str, ...] = (*plain, f"google/gemma-4-{size}-it-assistant")
    if "qat" in whole.lower():
        ours = f"google/gemma-4-{size}-it-qat-q4_0-unquantized-assistant"
        known = (f"unsloth/gemma-4-{size}-it-qat-GGUF", *plain, ours)
    return tuple(repo for repo in known if repo.lower() != name.repo.lower())


def needs_converting(repo: str) -> bool:
    """True if a repository of :func:`drafter_repositories` holds safetensors, for ``localspec convert``."""
    return repo.lower().startswith("google/") and repo.lower().endswith("-assistant")


def short_name(model: str) -> str:
    """Last part of a path or Hub name."""
    return model.replace("\\", "/").rstrip("/").rpartition("/")[2] or model
