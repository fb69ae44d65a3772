"""Training of the built-in pair ``tiny``: a synthetic corpus, a tokenizer, a Gemma 4 target and its MTP assistant."""
