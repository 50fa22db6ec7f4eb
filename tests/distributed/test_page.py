"""The numbers, messages and the MPI program of docs/many-processes.md."""

import re
import sys

import numpy as np
import pytest

from centerloss.distributed import ShardedCenterLoss
from tests.helpers.mpi import ENVIRONMENT, needs_mpi
from tests.helpers.processes import ROOT, run
from tests.helpers.thread_ranks import run_ranks

PAGE = (ROOT / "docs" / "many-processes.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))
DIGITS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")


def table(section, columns):
    """The rows of the table of a section that has so many columns, without its head."""
    lines = re.findall(r"^\| (.*) \|$", SECTIONS[section], re.M)
    rows = [line.split(" | ") for line in lines]
    return [row for row in rows if len(row) == columns][2:]


def formulas():
    """The bytes that a rank receives in a step, as functions of P, B and D."""
    code = re.findall(r"`([^`]*P[^`]*)` bytes", SECTIONS["Which class to use"])
    return [eval(f"lambda P, B, D: {text}") for text in code]


def test_table_follows_from_the_formulas():
    replicated, sharded = formulas()
    rows = table("Which class to use", 7)
    assert len(rows) > 5
    for K, *numbers in rows:
        classes = 10 ** int(K.removeprefix("10").translate(DIGITS))
        D, P = (int(text) for text in numbers[:2])
        expected = [
            classes * 4 * D / 2**30,
            -(-classes // P) * 4 * D / 2**30,
            sharded(P, 1024, D) / 1e6,
            replicated(P, 1024, D) / 1e6,
        ]
        assert numbers[2:] == [f"{value:.2f}" for value in expected]


@pytest.mark.parametrize(("P", "B", "D"), [(2, 8, 6), (4, 12, 2)])
def test_a_step_receives_the_bytes_of_the_formula(P, B, D):
    """Ranks have rows of B different classes, evenly spread over the ranks."""
    _, expected = formulas()
    labels = np.arange(B) * P

    def step(comm):
        loss_fn = ShardedCenterLoss(P * B, D, comm, over="rank")
        loss_fn.step(np.ones((B, D), np.float32), labels + comm.Get_rank())
        return comm.bytes_received, comm.collectives

    for received, collectives in run_ranks(P, step):
        assert received == expected(P, B, D)
        assert collectives == len(table("What a step exchanges", 2))


def test_message_of_the_other_ranks():
    def step(comm):
        loss_fn = ShardedCenterLoss(4, 2, comm, init="zeros")
        label = 9 if comm.Get_rank() == 1 else 0
        with pytest.raises((IndexError, ValueError)) as error:
            loss_fn.step(np.ones((1, 2), np.float32), [label])
        return str(error.value)

    first, second = run_ranks(2, step)
    assert f'"{first}"' in SECTIONS["When something fails"]
    assert "labels[0] is 9" in second


@needs_mpi
def test_program_for_mpi(tmp_path):
    section = SECTIONS["With NumPy and MPI"]
    (program,) = re.findall(r"^```python\n(.*?)^```$", section, re.M | re.S)
    ((command, printed),) = re.findall(
        r"^```console\n\$ (.*?)\n(.*?)^```$", section, re.M | re.S
    )
    (tmp_path / "train.py").write_text(program)
    words = [sys.executable if word == "python" else word for word in command.split()]
    more = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    options = {"cwd": tmp_path, "env": ENVIRONMENT | more}
    assert_prints(run(*words, **options), printed)
    again = run(*words, **options)  # goes on with the saved centers
    losses = [float(line.split()[-1]) for line in again.splitlines()]
    assert max(losses) < float(printed.split()[-1])


def assert_prints(output, expected):
    """Compare lines; numbers with two decimals may differ by rounding."""
    number = re.compile(r"\d+\.\d+")
    assert number.sub("", output) == number.sub("", expected)
    values, wanted = (number.findall(text) for text in (output, expected))
    np.testing.assert_allclose(
        np.array(values, float), np.array(wanted, float), atol=0.02
    )
