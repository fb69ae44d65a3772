"""The work and the output of ``localspec bench``."""
