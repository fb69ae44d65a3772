"""``python -m gguf_convert DIR -o FILE --type Q8_0``, the same as ``localspec convert``."""

from __future__ import annotations

import sys

import click

from gguf_convert.commands.convert import convert
from localspec.errors import LocalspecError


def main() -> None:
    """Run the command. An error is one sentence on stderr, with exit code 1, 2 (usage) or 130 (interrupted)."""
    try:
        convert.main(prog_name="python -m gguf_convert", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except LocalspecError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
