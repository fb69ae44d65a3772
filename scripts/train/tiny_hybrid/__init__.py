"""A small hybrid model (gated delta nets and attention) with a prediction head, trained on the corpus of ``tiny``."""
