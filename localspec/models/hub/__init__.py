"""Names → files, and what goes with what. Does not import the engine."""
