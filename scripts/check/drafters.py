"""Write the table of docs/drafters.md from the registry of drafters. ``--check`` exits 1 if it is not current."""

from __future__ import annotations

import sys
from pathlib import Path

from localspec.models.drafter_kinds import table

FILE = Path(__file__).resolve().parents[2] / "docs" / "drafters.md"
_BEGIN, _END = "<!-- table: made by scripts/check/drafters.py -->\n", "\n<!-- end of table -->"


def render(page: str) -> str:
    """The page with the table of the registry."""
    before, rest = page.split(_BEGIN)
    return f"{before}{_BEGIN}{table()}{_END}{rest.split(_END)[1]}"


def main() -> None:
    page = FILE.read_text(encoding="utf-8")
    made = render(page)
    if "--check" in sys.argv[1:]:
        sys.exit(0 if made == page else "docs/drafters.md is not current; run python -m scripts.check.drafters")
    FILE.write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main()
