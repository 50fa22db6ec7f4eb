"""Where the C library lies."""

import os.path


def get_include() -> str:
    """Return the folder of the C library: ``centerloss.h`` and the sources behind it.

    To be compiled with one's own program are ``plan.c``, ``jobs.c``, ``groups.c``,
    ``threads.c``, ``dispatch.c`` and ``kernels_*.c``: as C11, with
    ``-ffp-contract=off`` and threads; they need nothing else. The other ``.c`` files,
    which lie there in a clone, are the Python module's. ``centerloss.h`` says how to
    use the library.

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
