"""Terminal input and output: style, wrapping, progress, notes, answers, interrupts."""
