"""The work and the output of ``localspec bench``, and of the demonstration."""
