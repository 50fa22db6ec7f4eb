"""What pytest leaves out where PyTorch, which is optional, is not installed."""

from importlib.util import find_spec

collect_ignore = []
if find_spec("torch") is None:
    collect_ignore.append("centerloss/torch")
if find_spec("pytorch_metric_learning") is None:
    collect_ignore.append("centerloss/torch/metric_learning.py")
