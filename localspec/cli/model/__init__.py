"""The models of a command: chosen at the first run, downloaded, loaded."""
