"""Generation: the loop that drafts, verifies and accepts, and what becomes of its tokens."""
