"""Write the golden hashes anew: golden.txt, and those in ../test_golden.py.

Only after a change that is meant to change bits, with a note in CHANGELOG.md.
"""

import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
TESTS = HERE.parent


def printed_by(script):
    return subprocess.check_output([sys.executable, script], text=True)


if __name__ == "__main__":
    (HERE / "golden.txt").write_text(printed_by(TESTS / "test_c_harness.py"))
    script = TESTS / "test_golden.py"
    lines = printed_by(script)
    golden = r'(?s)(?<=GOLDEN = """\\\n).*?(?=""")'
    script.write_text(re.sub(golden, lines, script.read_text(), count=1))
