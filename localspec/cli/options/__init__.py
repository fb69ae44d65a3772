"""Command-line options that commands share, as decorators and as the frozen objects that they become."""
