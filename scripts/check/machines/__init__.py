"""Checks of several machines, played by network namespaces of this one. Needs root, iproute2 and a build with RPC."""
