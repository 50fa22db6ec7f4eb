"""Versions and build, for bug reports and logs."""

import logging
import platform
import sys

import numpy as np

import centerloss

from ._core import _build_info, get_num_threads


def show_versions() -> None:
    """Print the versions and the build of centerloss, NumPy, Python and the platform.

    Examples
    --------
    >>> import centerloss
    >>> centerloss.show_versions()
    centerloss: ...
    compiler: ...
    isa: ...
    threads: ...
    numpy: ...
    python: ...
    platform: ...
    """
    rows = {
        "centerloss": centerloss.__version__,
        **_build_info(),
        "threads": get_num_threads(),
        "numpy": np.__version__,
        "python": sys.version.replace("\n", " "),
        "platform": platform.platform(),
    }
    for name, value in rows.items():
        print(f"{name}: {value}")


def log_build() -> None:
    """Log version, instruction set and number of threads at level DEBUG."""
    logging.getLogger("centerloss").debug(
        "centerloss %s: %s, %d threads",
        centerloss.__version__,
        _build_info()["isa"],
        get_num_threads(),
    )
