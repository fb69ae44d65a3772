"""Shell completion of commands, flags, models and paths.

The shell scripts call the program with ``_LOCALSPEC_COMPLETE`` set, and click answers. A metavar says which values an
option takes: a MODEL, a FILE. Bash has its own script because click's loses names with a colon. Only the list of pulled
models is read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import click
from click.shell_completion import BashComplete, CompletionItem, ShellComplete, add_completion_class, split_arg_string

VARIABLE = "_LOCALSPEC_COMPLETE"
#: An option's metavar → what its values are.
_KINDS = {"MODEL": "model", "DRAFT": "draft", "DRAFTER": "draft", "TARGET": "model", "KEY": "key"}
#: A command → what its names are.
_NAMES = {"pull": "pullable", "rm": "pulled"}
_PATHS = ("FILE", "FILE|JSON", "DIR", "PATH", "IN", "OUT", "CURVE", "CURVE.JSON")
#: Where a path will do as well.
_OR_PATHS = ("model", "draft", "path")
_BUILT_IN = {"model": ["tiny"], "draft": ["auto", "none", "ngram"]}

_BASH = """\
%(complete_func)s() {
    local kind value
    COMPREPLY=()
    while IFS=, read -r kind value; do
        if [[ $kind == plain ]]; then
            COMPREPLY+=("$value")
        elif [[ $kind == dir ]]; then
            compopt -o dirnames 2>/dev/null
        else
            compopt -o default 2>/dev/null
        fi
    done < <(COMP_LINE="${COMP_LINE:0:COMP_POINT}" %(complete_var)s=bash_complete "$1")
}
complete -o nosort -F %(complete_func)s %(prog_name)s 2>/dev/null ||
    complete -o default -F %(complete_func)s %(prog_name)s
"""


class _Bash(BashComplete):
    """Bash splits words at colons and wants the part behind the last one; macOS has a Bash of 2007."""

    name = "bash"
    source_template = _BASH
    _before_colon = ""

    def source(self) -> str:
        return ShellComplete.source(self)

    def get_completion_args(self) -> tuple[list[str], str]:
        line = os.environ["COMP_LINE"]
        words = split_arg_string(line)
        last = "" if line[-1:].isspace() or len(words) < 2 else words.pop()
        self._before_colon = last[: last.rfind(":") + 1].rpartition("=")[2]
        return words[1:], last

    def format_completion(self, item: CompletionItem) -> str:
        return f"{item.type},{str(item.value).removeprefix(self._before_colon)}"


add_completion_class(_Bash)


class _Known(click.types.StringParamType):
    """Text of which some values are known; where none fits, it may be a path."""

    def __init__(self, kind: str) -> None:
        self.name = kind

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        found = [name for name in _names(self.name) if name.lower().startswith(incomplete.lower())]
        items = [CompletionItem(name) for name in dict.fromkeys(found)]
        return [CompletionItem(incomplete, type="file"), *items] if self.name in _OR_PATHS else items


def prepare(command: click.Command) -> None:
    """Let the command's text values be completed by what their metavar says they are."""
    for parameter in command.params:
        metavar = (parameter.metavar or "").strip("[].").upper()
        if not isinstance(parameter.type, (click.types.StringParamType, click.Path)):
            continue
        kind = _KINDS.get(metavar) or ("path" if metavar in _PATHS else None)
        if isinstance(parameter, click.Argument) and metavar == "NAME":
            kind = _NAMES.get(str(command.name))
        if kind:
            parameter.type = _Known(kind)
    for part in getattr(command, "commands", {}).values():
        prepare(part)


def _names(kind: str) -> Iterator[str]:
    yield from _BUILT_IN.get(kind, ())
    if kind == "pullable":
        from localspec.models.recommended import RECOMMENDED

        yield from (pair.target for pair in RECOMMENDED if not pair.built_in)
    elif kind == "key":
        from localspec.cli.settings import settings

        yield from settings()
    elif kind in ("model", "draft", "pulled"):
        yield from _pulled(kind)


def _pulled(kind: str) -> Iterator[str]:
    """Names of what is on disk, the short ones first."""
    from localspec.models import store
    from localspec.models.hub.names import parse_name
    from localspec.models.recommended import RECOMMENDED

    models = store.models()
    names = [model.name for model in models if kind != "model" or model.role == "model"]
    here = {name.lower() for name in names}
    for pair in RECOMMENDED:
        if kind != "draft" and str(parse_name(pair.target)).lower() in here:
            yield pair.target
    yield from names
