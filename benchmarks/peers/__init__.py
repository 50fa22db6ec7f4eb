"""Implementations of a step, one module per library."""
