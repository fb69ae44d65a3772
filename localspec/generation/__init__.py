"""Generation of one answer: the speculative loop, and the text, statistics and completion made of its tokens."""
