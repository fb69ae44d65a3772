"""How the built-in pair ``tiny`` is made: a synthetic corpus, a tokenizer, a Gemma 4 target and its MTP assistant."""
