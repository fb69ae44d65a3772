"""Model names to files: the disk, the Hub, the pairs, the built-in pair."""
