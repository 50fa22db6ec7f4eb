"""What a bug report or a log should say of the build."""

import logging
import platform
import sys

import numpy as np

from . import __version__
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
        "centerloss": __version__,
        **_build_info(),
        "threads": get_num_threads(),
        "numpy": np.__version__,
        "python": sys.version.replace("\n", " "),
        "platform": platform.platform(),
    }
    for name, value in rows.items():
        print(f"{name}: {value}")


def log_build() -> None:
    """Log, for debugging, what the calls of this process are worked on with."""
    logging.getLogger("centerloss").debug(
        "centerloss %s: %s, %d threads",
        __version__,
        _build_info()["isa"],
        get_num_threads(),
    )
