"""Facts that are measured once per machine and file, and remembered."""
