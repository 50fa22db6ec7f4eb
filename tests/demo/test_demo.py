"""``python -m centerloss.demo``: flags, numbers, and what it says when it fails."""

import json
import subprocess
import sys

import pytest

import centerloss.demo
from centerloss.demo import Result, Settings, report
from tests.demo.demo_files import PNG, numbers


def test_digits_reach_the_target(tmp_path):
    flags = ["--out", "picture.png", "--json", "numbers.json"]
    command = [sys.executable, "-m", "centerloss.demo", *flags]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    runs = json.loads((tmp_path / "numbers.json").read_text())["runs"]
    softmax, center = runs
    assert (softmax["loss_weight"], center["loss_weight"]) == Settings().loss_weights
    assert center["ratio"] <= softmax["ratio"] / 2
    assert center["test_accuracy"] >= softmax["test_accuracy"] - 0.01
    assert softmax["test_accuracy"] > 0.9
    assert center["nearest_center_accuracy"] > softmax["nearest_center_accuracy"]
    assert (tmp_path / "picture.png").read_bytes().startswith(PNG)
    assert f"{center['ratio']:.4f}" in done.stdout.splitlines()[-1].split()
    assert done.stderr == ""


def test_json_and_table(run_main, tmp_path):
    path = tmp_path / "numbers.json"
    weights = ["--loss-weight", "0", "0.05", "0.5", "--alpha", "0.25", "--epochs", "3"]
    status, output, errors = run_main(*weights, "--json", str(path))
    assert (status, errors) == (0, "")
    written = json.loads(path.read_text())
    assert list(written) == ["runs"]
    keys = (
        "loss_weight alpha epochs test_accuracy nearest_center_accuracy within between "
        "ratio seconds seconds_centerloss"
    )
    assert [list(run) for run in written["runs"]] == [keys.split()] * 3
    assert [run["loss_weight"] for run in written["runs"]] == [0, 0.05, 0.5]
    first, *table = output.splitlines()
    assert first == "90 images to train and 30 to test, 3 classes, 3 epochs"
    assert table == report.table([Result(**run) for run in written["runs"]]).split("\n")
    for run in written["runs"]:
        assert (run["alpha"], run["epochs"]) == (0.25, 3)
        assert run["ratio"] == run["within"] / run["between"]
        assert 0 < run["seconds_centerloss"] < run["seconds"]
    assert (tmp_path / "demo.png").read_bytes().startswith(PNG)


def test_table_by_hand():
    result = Result(0.1, 0.5, 3, 0.987654, 0.9, 1.5, 30.0, 0.05, 12.3456, 0.0123)
    header, row = report.table([result]).splitlines()
    assert header.split("  ")[0] == "loss weight"
    assert " ".join(row.split()) == "0.1 98.77% 90.00% 1.5 30 0.0500 12.35 0.012"
    assert len(header) == len(row)


def test_same_seed_same_numbers(run_main, tmp_path):
    found = []
    for i, seed in enumerate(["5", "5", "6"]):
        path = tmp_path / f"{i}.json"
        assert run_main("--epochs", "2", "--seed", seed, "--json", str(path))[0] == 0
        found.append(numbers(path))
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("flags", [["--feat-dim", "5"], ["--batch-size", "1000000"]])
def test_other_sizes(run_main, tmp_path, flags):
    assert run_main("--epochs", "2", *flags)[0] == 0
    assert (tmp_path / "demo.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--epochs -3", "--epochs: expected a whole number above 0, not '-3'"),
        ("--epochs 2.5", "--epochs: expected a whole number above 0, not '2.5'"),
        ("--batch-size 0", "--batch-size: expected a whole number above 0, not '0'"),
        ("--learning-rate 0", "--learning-rate: expected a number above 0, not '0'"),
        ("--learning-rate inf", "--learning-rate: expected a number above 0"),
        ("--feat-dim 1", "--feat-dim: expected a whole number from 2, not '1'"),
        ("--loss-weight 0.1 -1", "--loss-weight: expected a number from 0, not '-1'"),
        ("--loss-weight nan", "--loss-weight: expected a number from 0, not 'nan'"),
        ("--alpha 1.5", "--alpha: expected a number from 0 to 1, not '1.5'"),
        ("--seed -1", "--seed: expected a whole number of 32 bits, not '-1'"),
        ("--out no/such/folder.png", "--out: cannot write no/such/folder.png: No such"),
        ("--json .", "--json: cannot write .: Is a directory"),
        ("--gif no/such/folder.gif", "--gif: cannot write no/such/folder.gif: No such"),
        ("--data no-such", "no-such: no such folder"),
        ("--data no-such/", "no-such: no such folder"),
        ("--data {file}", "not a folder"),
        ("--epoch 3", "unrecognized arguments: --epoch 3"),
    ],
)
def test_wrong_flag(run_main, tmp_path, flags, message):
    file = tmp_path / "file"
    file.write_bytes(b"")
    status, output, errors = run_main(*flags.format(file=file).split())
    assert (status, output) == (2, "")
    assert errors.startswith("python -m centerloss.demo: ")
    assert errors.count("\n") == 1
    assert message in errors
    assert not (tmp_path / "demo.png").exists()


def test_file_that_was_there_survives_a_wrong_flag(run_main, tmp_path):
    (tmp_path / "demo.png").write_bytes(b"mine")
    assert run_main("--data", "no-such")[0] == 2
    assert (tmp_path / "demo.png").read_bytes() == b"mine"


@pytest.mark.parametrize("module", ["matplotlib.axes", "tqdm", "threadpoolctl"])
def test_missing_package_is_named(run_main, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "centerloss.demo.report")
    monkeypatch.delattr(centerloss.demo, "report")
    status, _, errors = run_main("--epochs", "1")
    assert status == 2
    assert module in errors
    assert "pip install 'centerloss[demo]'" in errors


@pytest.mark.parametrize(
    ("weight", "advice"),
    [("0", "try --learning-rate 2.5e+29\n"), ("2", " or --loss-weight 0.5\n")],
)
def test_divergence(run_main, tmp_path, weight, advice):
    path = tmp_path / "numbers.json"
    flags = ["--loss-weight", weight, "--learning-rate", "1e30"]
    status, output, errors = run_main(*flags, "--json", str(path))
    assert status == 1
    assert f"diverged at loss weight {weight} and learning rate 1e+30" in errors
    assert errors.endswith(advice)
    assert len(output.splitlines()) == 1
    assert not path.exists()
    assert not (tmp_path / "demo.png").exists()
