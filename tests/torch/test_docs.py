"""The code of two pages and of the README runs, and prints the given output."""

import re
import socket
from pathlib import Path

import pytest
import torch

pytest.importorskip("pytorch_metric_learning", reason="it is not installed")

ROOT = Path(__file__).parents[2]


def blocks(name):
    text = (ROOT / name).read_text("utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)


def printed(block):
    """The output in the comments of a block."""
    return re.findall(r"^print\(.*\)  # (.*)$", block, re.M)


@pytest.fixture
def one_rank(monkeypatch):
    """The environment variables that torchrun sets for a single process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in {**variables, "RANK": 0, "WORLD_SIZE": 1}.items():
        monkeypatch.setenv(name, str(value))


@pytest.mark.usefixtures("one_rank")
@pytest.mark.parametrize("page", ["docs/index.md", "docs/pytorch.md"])
def test_blocks_print_the_output_in_their_comments(page, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    old = torch.randn(10, 8)
    torch.save({"fc.bias": torch.zeros(10), "center_loss.centers": old}, "old.pt")
    torch.manual_seed(0)
    namespace = {}
    for block in blocks(page):
        exec(compile(block, page, "exec"), namespace)
        assert capsys.readouterr().out.splitlines() == printed(block)
        if "convert_state_dict" in block:
            assert torch.equal(namespace["center_loss"].centers, old)


def test_block_of_the_readme(capsys):
    """It runs as it is, and its loss trains the network and moves the centers."""
    (block,) = blocks("README.md")
    names = {}
    exec(compile(block, "README.md", "exec"), names)
    assert capsys.readouterr().out.splitlines() == printed(block)
    for module in (names["network"], names["classifier"]):
        assert module.weight.grad.any()
    embeddings, labels = names["embeddings"], names["labels"]
    logits = names["classifier"](embeddings)
    softmax_loss = torch.nn.functional.cross_entropy(logits, labels)
    assert names["loss"] > softmax_loss
