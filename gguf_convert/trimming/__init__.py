"""Drafters with a trimmed vocabulary: choice of the kept tokens, metadata, and the file."""
