"""Terminal output: style, progress, interruption."""
