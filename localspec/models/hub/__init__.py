"""The Hugging Face Hub: names, choice of files, requests, errors. Nothing here reads or writes the disk."""
