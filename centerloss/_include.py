"""Where the C library lies."""

import os.path


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
    package = os.path.dirname(__file__)
    installed = os.path.join(package, "csrc")
    in_a_clone = os.path.join(os.path.dirname(package), "csrc")
    return installed if os.path.isdir(installed) else in_a_clone
