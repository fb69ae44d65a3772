"""Facts of a machine, an installation and a pair, and advice from them, for ``localspec doctor``."""
