"""Nothing stays behind a call: no block of memory, no reference, no page.

The long form is `python tests/isolated/leaks.py --calls 100000`.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from every_call import IDS

SCRIPT = Path(__file__).with_name("isolated") / "leaks.py"


@pytest.mark.skipif(
    not hasattr(sys, "getallocatedblocks"), reason="CPython alone counts its blocks"
)
def test_nothing_stays_behind():
    command = [sys.executable, str(SCRIPT), "--calls", "1000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(IDS) < {line.split(":")[0] for line in done.stdout.splitlines()}
