"""Quantisation of GGUF files with llama.cpp's quantiser, in a child process."""
