"""Backends: the seam to llama.cpp, and a scripted fake with the same shape (see :mod:`localspec.backends.base`)."""
