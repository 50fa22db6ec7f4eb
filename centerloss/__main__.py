"""``python -m centerloss``: print the versions and name the demo."""

from . import show_versions

show_versions()
print("\nTo see it at work: python -m centerloss.demo")
