"""Measurements of this machine and a model's file, made once and remembered."""
