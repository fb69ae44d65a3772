"""Output of the converter: tensors as bytes, GGUF files, and their safe replacement on disk."""
