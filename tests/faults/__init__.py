"""Faults injected on purpose, and what is left of them afterwards."""
