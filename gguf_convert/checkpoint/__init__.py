"""Hugging Face checkpoints on disk: the folder, its safetensors files, its JSON files."""
