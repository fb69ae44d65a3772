"""Model names to files: the Hub, the disk, pairs of target and drafter, the built-in pair."""
