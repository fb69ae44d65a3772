"""Interfaces that clients speak: each turns a request into one job, and the job's events into its own answer. Pure."""
