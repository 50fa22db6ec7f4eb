"""Files that import PyTorch: doctest collection would import them without it."""

from importlib.util import find_spec

collect_ignore = []
if find_spec("torch") is None:
    collect_ignore += ["batches.py", "isolated_ranks.py", "isolated_worker.py"]
