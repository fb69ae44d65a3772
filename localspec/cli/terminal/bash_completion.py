"""The Bash completion script and its protocol.

click's own splits words at colons, and so loses names such as ``user/repo:Q4_0``; it also needs Bash 4.4, where macOS
has Bash 3.2.
"""

from __future__ import annotations

import os

from click.shell_completion import BashComplete, CompletionItem, ShellComplete, add_completion_class, split_arg_string

#: The environment variable by which a shell script asks the program for completions; its name is click's.
VARIABLE = "_LOCALSPEC_COMPLETE"

_SCRIPT = """\
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


class ColonBashComplete(BashComplete):
    """Completes words with colons: Bash replaces only the part behind the last one."""

    name = "bash"
    source_template = _SCRIPT
    _before_colon = ""

    def source(self) -> str:
        return ShellComplete.source(self)  # without click's check of the version of Bash

    def get_completion_args(self) -> tuple[list[str], str]:
        line = os.environ["COMP_LINE"]
        words = split_arg_string(line)
        last = "" if line[-1:].isspace() or len(words) < 2 else words.pop()
        self._before_colon = last[: last.rfind(":") + 1].rpartition("=")[2]
        return words[1:], last

    def format_completion(self, item: CompletionItem) -> str:
        return f"{item.type},{str(item.value).removeprefix(self._before_colon)}"


add_completion_class(ColonBashComplete)
