"""``python -m gguf_convert DIR -o FILE --type Q8_0``."""

from __future__ import annotations

import sys

from localspec.cli.convert import convert
from localspec.errors import LocalspecError


def main() -> None:
    """Run the command; an error is one sentence on stderr and its exit code."""
    try:
        convert.main(prog_name="python -m gguf_convert")
    except LocalspecError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
