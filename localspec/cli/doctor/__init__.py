"""What ``localspec doctor`` finds out: hardware, build, pair, files, and what to do next. Connects to nothing."""
