"""The programs of docs/many-processes.md that use PyTorch run."""

import os
import re
import sys

import numpy as np
import pytest
import torch
import torch.distributed as dist

from tests.distributed.test_page import PAGE, SECTIONS, assert_prints
from tests.helpers.processes import ROOT, run

MPI = "With NumPy and MPI"
BLOCKS = [
    block
    for heading, text in SECTIONS.items()
    if heading != MPI
    for block in re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
]
PROGRAM, *OTHERS = BLOCKS
LAST_LINE = "dist.destroy_process_group()"
RUNS = re.findall(r"^```console\n\$ (torchrun .*?)\n(.*?)^```$", PAGE, re.M | re.S)


@pytest.fixture(autouse=True)
def old_checkpoint(tmp_path, monkeypatch):
    """The file of a copied class that the page reads, in the current folder."""
    monkeypatch.chdir(tmp_path)
    centers = torch.randn(10_000, 32)
    torch.save({"center_loss.centers": centers}, "old.pt")
    return centers


def test_blocks_in_one_process(monkeypatch, capsys, old_checkpoint):
    """With a process group of one rank, and two steps."""
    variables = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    for name, value in {**variables, "RANK": "0", "WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)
    namespace = {}
    try:
        run_block(short(without_last_line(PROGRAM)), namespace)
        for block in OTHERS:
            run_block(block.replace("centers-100", "centers-2"), namespace)
            expected = re.findall(r"^print\(.*\)  # (.*)$", block, re.M)
            assert capsys.readouterr().out.splitlines() == expected
            if "convert_state_dict" in block:
                assert torch.equal(namespace["center_loss"].shard, old_checkpoint)
    finally:
        dist.destroy_process_group()
    namespace["center_loss"].shard[5] = 1  # in the file
    assert (np.memmap("shard-0.bin", np.float32, "r", shape=(10_000, 32))[5] == 1).all()


def run_block(block, namespace):
    exec(compile(block, "many-processes.md", "exec"), namespace)


def without_last_line(program):
    body, last = program.rstrip("\n").rsplit("\n", 1)
    assert last == LAST_LINE
    return body + "\n"


def short(program):
    assert "STEPS = 10_000, 32, 100" in program
    return program.replace("STEPS = 10_000, 32, 100", "STEPS = 10_000, 32, 2")


@pytest.mark.slow
@pytest.mark.skipif(not dist.is_gloo_available(), reason="this PyTorch has no gloo")
def test_program_with_torchrun(tmp_path):
    """As printed: with two ranks, and then resumed with three."""
    (tmp_path / "train.py").write_text(PROGRAM)
    assert len(RUNS) == 2
    for command, printed in RUNS:
        assert_prints(torchrun(command, tmp_path), printed)


@pytest.mark.slow
@pytest.mark.skipif(not dist.is_gloo_available(), reason="this PyTorch has no gloo")
def test_other_blocks_with_torchrun(tmp_path):
    program = without_last_line(PROGRAM) + "".join(OTHERS) + LAST_LINE
    (tmp_path / "train.py").write_text(program)
    output = torchrun(RUNS[0][0], tmp_path)
    assert output.count("(10000, 32)") == 2


def torchrun(command, folder):
    name, *words = command.split()
    assert name == "torchrun"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    module = [sys.executable, "-m", "torch.distributed.run"]
    return run(*module, *words, cwd=folder, env=environment)
