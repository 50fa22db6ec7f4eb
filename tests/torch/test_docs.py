"""The code of docs/pytorch.md and of the README runs, and prints the given output."""

import functools
import re
import socket
import sys
import types
from pathlib import Path

import pytest
import torch

pytest.importorskip("pytorch_metric_learning", reason="it is not installed")

ROOT = Path(__file__).parents[2]


def blocks(name):
    text = (ROOT / name).read_text("utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)


@pytest.fixture
def one_rank(monkeypatch):
    """The environment variables that torchrun sets for a single process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in {**variables, "RANK": 0, "WORLD_SIZE": 1}.items():
        monkeypatch.setenv(name, str(value))


# PyTorch's compiler imports what PyTorch itself calls deprecated.
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.usefixtures("one_rank")
def test_blocks_print_the_output_in_their_comments(capsys, monkeypatch, tmp_path):
    # Compiling to C++ takes a minute; test_training.py does that.
    eager = functools.partial(torch.compile, backend="aot_eager")
    monkeypatch.setattr(torch, "compile", eager)
    monkeypatch.chdir(tmp_path)
    old = torch.randn(10, 8)
    torch.save({"fc.bias": torch.zeros(10), "center_loss.centers": old}, "old.pt")
    torch.manual_seed(0)
    page = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", page)  # torch.compile may import it
    namespace = vars(page)
    for block in blocks("docs/pytorch.md"):
        exec(compile(block, "page", "exec"), namespace)
        expected = re.findall(r"^print\(.*\)  # (.*)$", block, re.M)
        assert capsys.readouterr().out.splitlines() == expected
        if "convert_state_dict" in block:
            assert torch.equal(namespace["center_loss"].centers, old)


def test_block_of_the_readme_runs():
    (block,) = blocks("README.md")
    embeddings = torch.randn(20, 2, requires_grad=True)
    namespace = {"embeddings": embeddings, "labels": torch.arange(20) % 10}
    exec(compile(block, "README.md", "exec"), namespace | {"softmax_loss": 0.0})
    assert embeddings.grad.abs().sum(1).min() > 0
