"""Where the C library lies."""

from pathlib import Path


def get_include() -> str:
    """Return the folder of the C library: ``centerloss.h`` and the sources behind it.

    All of its ``.c`` files are to be compiled with one's own program; they need C11,
    threads and nothing else. ``centerloss.h`` says how to use them.

    Returns
    -------
    str
        The folder's path.

    Examples
    --------
    >>> import os, centerloss
    >>> os.path.exists(os.path.join(centerloss.get_include(), "centerloss.h"))
    True
    """
    package = Path(__file__).parent
    installed, in_a_clone = package / "csrc", package.parent / "csrc"
    return str(installed if installed.is_dir() else in_a_clone)
