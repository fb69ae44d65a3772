"""Structured answers: JSON schemas and GBNF grammars as a :class:`localspec.constraint.Constraint` on generation."""
