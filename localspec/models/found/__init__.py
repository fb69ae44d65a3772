"""Models that other programs keep on this disk: found by name, read in place, and never changed."""
