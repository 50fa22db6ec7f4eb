"""The default number of threads that a call may use."""

import math
import os

MAX_THREADS = 256  # the limit of `set_num_threads`


def default_num_threads() -> int:
    """Return CENTERLOSS_NUM_THREADS, OMP_NUM_THREADS, or the number of processors.

    Raises
    ------
    ImportError
        CENTERLOSS_NUM_THREADS is not a number from 1 to 256.
    """
    own = os.environ.get("CENTERLOSS_NUM_THREADS", "")
    if own:
        number = _number(own)
        if not 1 <= number <= MAX_THREADS:
            msg = f"CENTERLOSS_NUM_THREADS is {own!r}, expected 1 to {MAX_THREADS}"
            raise ImportError(msg)
        return number
    # OpenMP accepts a list, one number per nesting level. Invalid values are ignored:
    # the variable belongs to other libraries.
    shared = _number(os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip())
    return min(shared or _processors(), MAX_THREADS)


def _number(text: str) -> int:
    """Return a decimal number of at most 9 digits; 0 for any other text."""
    return int(text) if text.isdecimal() and len(text) <= 9 else 0


def _processors() -> int:
    """Return the number of processors that this process may use, quotas included."""
    if hasattr(os, "sched_getaffinity"):
        processors = len(os.sched_getaffinity(0))
    else:
        processors = os.cpu_count() or 1
    return max(1, math.ceil(min(processors, _cgroup_quota())))


def _cgroup_quota(root: str = "/sys/fs/cgroup") -> float:
    """Return the processor quota of a container; infinity if there is none."""
    for names in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):
        try:
            quota, period = " ".join(_read(f"{root}/{name}") for name in names).split()
        except (OSError, ValueError):
            continue  # the other version of cgroups, or none
        if quota not in ("max", "-1"):
            return int(quota) / int(period)
    return math.inf


def _read(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()
