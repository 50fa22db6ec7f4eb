"""Where the files that the tests look at are."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
CSRC = ROOT / "csrc"
KERNELS = CSRC / "kernels"
TESTS = ROOT / "tests"
