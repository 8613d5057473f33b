"""Measurements of pi_ai: ``python -m benchmarks``."""
