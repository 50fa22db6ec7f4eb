"""How many threads a call may use until `set_num_threads` says otherwise."""

import math
import os

MOST = 256  # what `set_num_threads` takes


def default_num_threads() -> int:
    """Return CENTERLOSS_NUM_THREADS, OMP_NUM_THREADS, or the processors to be had.

    Raises
    ------
    ImportError
        CENTERLOSS_NUM_THREADS is not a number from 1 to 256.
    """
    own = os.environ.get("CENTERLOSS_NUM_THREADS", "")
    if own:
        number = _number(own)
        if not 1 <= number <= MOST:
            msg = f"CENTERLOSS_NUM_THREADS is {own!r}, expected 1 to {MOST}"
            raise ImportError(msg)
        return number
    # OpenMP takes a list, one number per nesting level; its errors are not ours.
    shared = _number(os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip())
    return min(shared or _processors(), MOST)


def _number(text: str) -> int:
    """Return a decimal number; 0 if it is none, or longer than any of threads."""
    return int(text) if text.isdecimal() and len(text) <= 9 else 0


def _processors() -> int:
    """Count the processors this process may use, of which a quota may take some."""
    if hasattr(os, "sched_getaffinity"):
        processors = len(os.sched_getaffinity(0))
    else:
        processors = os.cpu_count() or 1
    return max(1, math.ceil(min(processors, _cgroup_quota())))


def _cgroup_quota(root: str = "/sys/fs/cgroup") -> float:
    """Return how many processors' time a container may use, infinity if any."""
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
