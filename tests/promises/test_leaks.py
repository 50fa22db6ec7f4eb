"""No call leaks a block of memory, a reference or a page. `make leaks` takes longer."""

import sys

import pytest

from tests.helpers.cases import IDS
from tests.helpers.processes import run_module


@pytest.mark.thread_unsafe(reason="starts a process")
@pytest.mark.skipif(
    not hasattr(sys, "getallocatedblocks"), reason="only CPython counts its blocks"
)
def test_leaks():
    lines = run_module("tests.isolated.leaks", "--calls", 500).splitlines()
    assert set(IDS) < {line.split(":")[0] for line in lines}
