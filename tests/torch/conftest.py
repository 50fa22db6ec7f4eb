"""What needs PyTorch before a test could be skipped: the doctests look at all files."""

from importlib.util import find_spec

collect_ignore = []
if find_spec("torch") is None:
    collect_ignore += ["torch_batches.py", "isolated_ranks.py", "isolated_worker.py"]
