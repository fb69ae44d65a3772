"""Commands of the converter for the ``localspec`` command line, one module each."""
