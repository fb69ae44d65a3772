"""Compare the demonstration's output with the block of the README that shows it.

    scripts/demo </dev/null | python -m scripts.check.demo

Reads the output from standard input. Prints the lines that differ and exits 1 if there are any. The output has no
timings, so every line counts.
"""

from __future__ import annotations

import re
import sys
from difflib import unified_diff
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"


def difference(readme: str, output: str) -> list[str]:
    """Lines of a diff from the README's block to ``output``; empty if they are equal.

    The block is the one that begins with the first line of ``output``.
    """
    first = output.partition("\n")[0]
    blocks = re.findall(r"^```text\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    shown = next((block.splitlines() for block in blocks if first and block.startswith(first)), ["(no such block)"])
    return list(unified_diff(shown, output.splitlines(), "README.md", "scripts/demo", lineterm=""))


def main() -> None:
    if lines := difference(README.read_text(encoding="utf-8"), sys.stdin.read()):
        print("\n".join(lines))
        sys.exit("The README does not show what scripts/demo prints; copy the output into its block.")


if __name__ == "__main__":
    main()
