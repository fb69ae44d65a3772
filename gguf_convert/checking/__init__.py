"""Comparison of a written GGUF file with its checkpoint."""
