"""Structured answers: JSON schemas and GBNF grammars as a :class:`localspec.protocols.Constraint` on generation."""
