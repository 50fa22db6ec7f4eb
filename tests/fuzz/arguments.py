"""Random calls of every public function, right and wrong, against the reference.

    python tests/fuzz/arguments.py --calls 100000 --seed 1
    python tests/fuzz/arguments.py --seed 1 --only 4711

A call is made up twice from its seed and number, so that the functions in C and those
of `centerloss.reference` get arguments of the same bytes, layout and overlap. Both have
to return the same, within rounding, or to raise the same; a call that raises may change
no byte, another one none beside its results. The calls are made in a child process:
one that kills it is found too.
"""

import argparse
import faulthandler
import mmap
import os
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

import centerloss
from centerloss import reference
from tests.fuzz.comparing import difference, outcome
from tests.fuzz.generate import Maker


def describe(value):
    if isinstance(value, np.ndarray):
        text = f"{type(value).__name__} {value.dtype.str} {value.shape} {value.strides}"
        return text + ("" if value.flags.writeable else " read-only")
    return f"{value!r:.200}"


def check(seed, number, folder, verbose=False):
    """Make the call; returns how it ended, or raises AssertionError."""
    calls = [Maker(seed, number, f"{folder}/{side}").make() for side in "cr"]
    if verbose:
        print(calls[0].name)
        for name, value in calls[0].arguments.items():
            print(f"    {name}: {describe(value)}")
    outcomes = [
        outcome(call, module)
        for call, module in zip(calls, (centerloss, reference), strict=True)
    ]
    problem = difference(calls[0], *outcomes)
    for path in (*calls[0].files, *calls[1].files):
        path.unlink()
    if problem is not None:
        raise AssertionError(f"{calls[0].name}: {problem}")
    return "accepted" if outcomes[0].error is None else type(outcomes[0].error).__name__


def run(seed, numbers, progress, most_findings=20):
    """Check calls in this process; returns the number of findings."""
    counts, findings = Counter(), 0
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    with tempfile.TemporaryDirectory() as folder:
        for side in "cr":
            (Path(folder) / side).mkdir()
        for number in numbers:
            progress[:8] = number.to_bytes(8, "little")
            try:
                counts[check(seed, number, folder, verbose=len(numbers) == 1)] += 1
            except Exception as error:
                findings += 1
                if not isinstance(error, AssertionError) or len(numbers) == 1:
                    traceback.print_exc()
                print(f"--seed {seed} --only {number}: {error}", flush=True)
                if findings >= most_findings:
                    break
    total = sum(counts.values()) + findings
    share = counts["accepted"] / max(1, total)
    listed = ", ".join(f"{name} {count}" for name, count in counts.most_common())
    print(f"{total} calls: {listed}; {share:.0%} accepted; {findings} findings")
    return findings


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="the number of the one call to make")
    options = parser.parse_args(arguments)
    numbers = range(options.calls)
    if options.only is not None:
        numbers = [options.only]
    progress = mmap.mmap(-1, 8)
    faulthandler.enable()
    child = os.fork()
    if child == 0:
        findings = run(options.seed, numbers, progress)
        sys.stdout.flush()
        os._exit(findings > 0)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        number = int.from_bytes(progress[:8], "little")
        print(f"--seed {options.seed} --only {number}: signal {os.WTERMSIG(status)}")
    return status != 0


if __name__ == "__main__":
    sys.exit(main())
