"""``python -m centerloss``: what is installed, and what to try."""

from . import show_versions

show_versions()
print("\nTo see it at work: python -m centerloss.demo")
