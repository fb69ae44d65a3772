"""Measuring a pair against itself: paired runs, their statistics, and what it would bring on other machines."""
