"""The command line of the demo: flags, results and error messages."""

import json
import subprocess
import sys

import numpy as np
import pytest

import centerloss.demo
from centerloss.demo import Result, Settings, load_idx, report, train
from tests.demo.demo_files import PNG, numbers, run_demo


def test_center_loss_contracts_the_classes_of_the_digits(tmp_path):
    files = [tmp_path / name for name in ("demo.png", "demo.json")]
    flags = ["--epochs", "15", "--out", files[0], "--json", files[1]]
    status, output, errors = run_demo(*flags)
    assert (status, errors) == (0, "")
    softmax, center = json.loads(files[1].read_text())["runs"]
    assert (softmax["loss_weight"], center["loss_weight"]) == Settings().loss_weights
    assert center["ratio"] <= softmax["ratio"] / 2
    assert center["test_accuracy"] >= softmax["test_accuracy"] - 0.01
    assert softmax["test_accuracy"] > 0.9
    assert center["nearest_center_accuracy"] > softmax["nearest_center_accuracy"]
    table = output.splitlines()[1:4]
    assert f"{center['ratio']:.4f}" in table[-1].split()


def test_module_is_a_command():
    command = [sys.executable, "-m", "centerloss.demo", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: python -m centerloss.demo")


def test_json_and_table(finished):
    written = json.loads(finished.json.read_text())
    assert list(written) == ["runs"]
    keys = (
        "loss_weight alpha epochs test_accuracy nearest_center_accuracy within between "
        "ratio seconds seconds_centerloss"
    )
    assert [list(run) for run in written["runs"]] == [keys.split()] * 3
    assert [run["loss_weight"] for run in written["runs"]] == [0, 0.05, 0.5]
    first, table = finished.output.split("\n", 1)
    assert first == "90 images to train and 30 to test, 3 classes, 3 epochs"
    results = [Result(**run) for run in written["runs"]]
    assert table == f"{report.table(results)}\n{report.notes(results, 30)}\n"
    for result in written["runs"]:
        assert (result["alpha"], result["epochs"]) == (0.25, 3)
        assert result["ratio"] == result["within"] / result["between"]
        assert 0 < result["seconds_centerloss"] < result["seconds"]
    assert finished.png.read_bytes().startswith(PNG)


def test_table_by_hand():
    result = Result(0.1, 0.5, 3, 0.987654, 0.9, 1.5, 30.0, 0.05, 12.3456, 0.0123)
    header, row = report.table([result]).splitlines()
    assert header.split("  ")[0] == "loss weight"
    assert " ".join(row.split()) == "0.1 98.77% 90.00% 0.0500 1.5 30 12.35 0.012"
    assert len(header) == len(row)


def test_notes_have_the_standard_error_of_the_first_accuracy():
    result = Result(0.0, 0.5, 3, 0.9, 0.9, 1.5, 30.0, 0.05, 12.3456, 0.0123)
    other = Result(1.0, 0.5, 3, 0.5, 0.9, 1.5, 30.0, 0.05, 12.3456, 0.0123)
    # The root of 0.9 * 0.1 / 225.
    assert "standard error 2.0%;" in report.notes([result, other], 225)


def test_defaults_with_data(run_main, tmp_path):
    path = tmp_path / "numbers.json"
    assert run_main("--json", path)[0] == 0
    assert [(run["loss_weight"], run["epochs"]) for run in numbers(path)] == [
        (0, 8),
        (0.03, 8),
    ]


def test_same_seed_same_numbers_with_and_without_gif(
    run_main, finished, monkeypatch, tmp_path
):
    monkeypatch.setitem(sys.modules, "centerloss.demo.animation", None)
    monkeypatch.delattr(centerloss.demo, "animation")
    path = tmp_path / "numbers.json"
    assert run_main(*finished.flags, "--json", path)[0] == 0
    assert numbers(path) == numbers(finished.json)
    assert (tmp_path / "demo.png").read_bytes() == finished.png.read_bytes()


def test_other_seed_other_numbers(folder):
    split = load_idx(folder)
    one, two = (train(split, Settings(epochs=1, seed=seed))[0] for seed in (5, 6))
    assert not np.array_equal(one.network.parameters, two.network.parameters)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--epochs -3", "--epochs: expected a whole number above 0, not '-3'"),
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


def test_existing_file_is_kept_after_a_wrong_flag(run_main, tmp_path):
    (tmp_path / "demo.png").write_bytes(b"mine")
    assert run_main("--data", "no-such")[0] == 2
    assert (tmp_path / "demo.png").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("module", "importer"),
    [
        *((name, "report") for name in ("matplotlib.axes", "tqdm", "threadpoolctl")),
        ("PIL", "animation"),
    ],
)
def test_missing_package_is_named(run_main, tmp_path, monkeypatch, module, importer):
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, f"centerloss.demo.{importer}")
    monkeypatch.delattr(centerloss.demo, importer)
    path = tmp_path / "training.gif"
    status, _, errors = run_main("--epochs", "1", "--gif", path)
    assert status == 2
    assert errors == (
        f"python -m centerloss.demo: needs {module}: pip install 'centerloss[demo]'\n"
    )
    assert not path.exists()


@pytest.mark.parametrize(
    ("weight", "advice"),
    [("0", "try --learning-rate 2.5e+29\n"), ("2", " or --loss-weight 0.5\n")],
)
def test_divergence(run_main, tmp_path, weight, advice):
    files = {flag: tmp_path / f"demo{flag}" for flag in ("--out", "--json", "--gif")}
    outputs = [text for item in files.items() for text in item]
    flags = ["--loss-weight", weight, "--learning-rate", "1e30", *outputs]
    status, output, errors = run_main(*flags)
    assert status == 1
    assert f"diverged at loss weight {weight} and learning rate 1e+30" in errors
    assert errors.endswith(advice)
    assert errors.count("\n") == len(output.splitlines()) == 1
    assert not any(file.exists() for file in files.values())
