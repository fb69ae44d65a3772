"""The seam to llama.cpp. Only this folder calls it, and only :mod:`localspec.llama.binding` imports ``llama_cpp``."""
