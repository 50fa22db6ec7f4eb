"""What pytest leaves out where an optional library is not installed."""

from importlib.util import find_spec

collect_ignore = []
if find_spec("sklearn") is None:
    collect_ignore += ["README.md", "centerloss/sklearn.py", "docs/scikit-learn.md"]
if find_spec("torch") is None:
    collect_ignore.append("centerloss/torch")
if find_spec("pytorch_metric_learning") is None:
    collect_ignore.append("centerloss/torch/metric_learning.py")
