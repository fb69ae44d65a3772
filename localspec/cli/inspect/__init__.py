"""Facts of a GGUF file and its neighbours, and their text and JSON."""
