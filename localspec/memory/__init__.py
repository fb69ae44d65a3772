"""Memory: what a load takes, and what fits."""
