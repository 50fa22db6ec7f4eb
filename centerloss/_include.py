"""The folder of the C library."""

import os.path


def get_include() -> str:
    """Return the folder of the C library: ``centerloss.h`` and its sources.

    Compile every ``.c`` file in it with your program, as C11, with
    ``-ffp-contract=off`` and threads. ``centerloss.h`` describes the functions.

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
    in_a_clone = os.path.join(os.path.dirname(package), "csrc", "kernels")
    return installed if os.path.isdir(installed) else in_a_clone
