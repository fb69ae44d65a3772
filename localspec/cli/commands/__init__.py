"""Commands of ``localspec``, one module each."""
