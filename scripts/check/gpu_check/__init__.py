"""Measures a GPU with random pairs of Gemma 4's shapes; started by ``scripts/check/gpu``."""
