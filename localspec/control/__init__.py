"""Which drafter, and how far: costs as measured, acceptance as estimated, and the choice between them."""
