"""Nothing stays behind a call: no block of memory, no reference, no page.

The long form is `python tests/isolated/leaks.py --calls 100000`.
"""

import subprocess
import sys

import pytest

from tests.helpers.cases import IDS
from tests.helpers.paths import TESTS

SCRIPT = TESTS / "isolated" / "leaks.py"


@pytest.mark.skipif(
    not hasattr(sys, "getallocatedblocks"), reason="CPython alone counts its blocks"
)
def test_nothing_stays_behind():
    command = [sys.executable, str(SCRIPT), "--calls", "1000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(IDS) < {line.split(":")[0] for line in done.stdout.splitlines()}
