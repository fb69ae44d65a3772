"""Prompts, messages and tools from files, arguments and standard input: read, decoded and checked.

Each error names the file and the place in it. Nothing here depends on a model.
"""
