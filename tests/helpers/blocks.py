"""Blocks of memory, counted by Python."""

import gc
import sys


def blocks():
    """Count the blocks of memory that are in use, but for Python's own caches."""
    gc.collect()
    getattr(sys, "_clear_internal_caches", sys._clear_type_cache)()
    return sys.getallocatedblocks()
