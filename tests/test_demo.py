"""``python -m centerloss.demo``: files, flags, numbers, divergence and picture."""

import gzip
import io
import json
import struct
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import centerloss.demo
from centerloss.demo import (
    DataError,
    Divergence,
    Network,
    Result,
    Settings,
    Split,
    animation,
    evaluate,
    load_digits_split,
    load_idx,
    nearest_center,
    report,
    scatter,
    train,
)
from centerloss.demo.__main__ import main

NAMES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "t10k": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
TRAIN_IMAGES, TRAIN_LABELS = NAMES["train"]
TEST_IMAGES, TEST_LABELS = NAMES["t10k"]
PNG = b"\x89PNG\r\n\x1a\n"


def idx(array):
    """An array of unsigned bytes as an IDX file has it."""
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def images_of(labels, rng):
    """Noise of 4 x 3 pixels, with a bright pixel where the class is."""
    images = rng.integers(0, 128, (len(labels), 12))
    images[np.arange(len(labels)), labels % 12] = 255
    return images.reshape(-1, 4, 3)


@pytest.fixture
def folder(tmp_path):
    """The four files, of 90 and 30 images of the classes 1, 4 and 7."""
    rng = np.random.default_rng(0)
    path = tmp_path / "images"
    path.mkdir()
    for part, count in (("train", 90), ("t10k", 30)):
        labels = np.array([1, 4, 7])[np.arange(count) % 3]
        arrays = (images_of(labels, rng), labels)
        for name, array in zip(NAMES[part], arrays, strict=True):
            (path / name).write_bytes(idx(array))
    return path


@pytest.fixture
def run_main(folder, tmp_path, capsys):
    """Run the command line on the small files; return status, output and errors."""

    def run(*flags):
        arguments = ["--data", str(folder), "--out", str(tmp_path / "demo.png"), *flags]
        try:
            status = main(arguments)
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return run


# --- digits, with the default flags -----------------------------------------------


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


def test_split_of_the_digits():
    split = load_digits_split(seed=3)
    again, other = load_digits_split(seed=3), load_digits_split(seed=4)
    assert np.array_equal(split.test_images, again.test_images)
    assert not np.array_equal(split.test_images, other.test_images)
    assert split.train_images.dtype == np.float32
    assert (split.train_images.min(), split.train_images.max()) == (0, 1)
    shares = np.bincount(split.test_labels) / np.bincount(split.train_labels)
    assert np.ptp(shares) < 0.02


def test_standardized():
    split = load_digits_split()
    made = split.standardized()
    assert np.allclose(made.train_images.mean(axis=0), 0, atol=1e-5)
    assert made.train_images.var() == pytest.approx(1, rel=1e-5)
    mean = split.train_images.mean(axis=0)
    scale = (split.train_images - mean).std()
    assert np.allclose(made.test_images * scale + mean, split.test_images, atol=1e-5)


# --- files ------------------------------------------------------------------------


def test_idx_files(folder):
    split = load_idx(folder)
    assert split.classes == ("1", "4", "7")
    assert split.train_images.shape == (90, 12)
    assert split.test_images.shape == (30, 12)
    assert split.train_labels.tolist() == [0, 1, 2] * 30
    assert split.test_labels.tolist() == [0, 1, 2] * 10
    stored = np.frombuffer((folder / TRAIN_IMAGES).read_bytes(), np.uint8, offset=16)
    assert np.array_equal(split.train_images.ravel(), stored / np.float32(255))


def test_compressed_idx_files(folder):
    plain = load_idx(folder)
    for path in list(folder.iterdir()):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    packed = load_idx(folder)
    assert np.array_equal(packed.train_images, plain.train_images)
    assert np.array_equal(packed.test_labels, plain.test_labels)


LABELS = np.arange(90) % 3
IMAGES = idx(images_of(LABELS, np.random.default_rng(0)))
PACKED = gzip.compress(IMAGES)
FOREIGN = "starts with 0x{}, expected 0x00000803 (unsigned bytes, dimensions: 3)"
UNSOUND = "not a sound gzip file: "
# What is put into which file, and how the message goes on after the name.
WRONG_FILES = [
    (
        TRAIN_IMAGES,
        IMAGES[:-1],
        "truncated: 1079 bytes after the header, expected 90 x 4 x 3 = 1080",
    ),
    (
        TRAIN_IMAGES,
        IMAGES + b"\0",
        "trailing bytes: 1081 bytes after the header, expected 90 x 4 x 3 = 1080",
    ),
    (TRAIN_IMAGES, IMAGES[:10], "truncated: 10 bytes, expected a header of 16"),
    (TRAIN_IMAGES, b"", "truncated: 0 bytes, expected a header of 16"),
    (TRAIN_IMAGES, PNG, FOREIGN.format("89504e47")),
    (TRAIN_IMAGES, idx(LABELS), FOREIGN.format("00000801")),
    (TRAIN_IMAGES, idx(np.zeros((90, 0, 3))), "no pixels: 90 x 0 x 3"),
    (TRAIN_LABELS, idx(LABELS[:89]), f"89 labels, but {TRAIN_IMAGES} has 90 images"),
    (TEST_LABELS, idx(LABELS), f"90 labels, but {TEST_IMAGES} has 30 images"),
    (TRAIN_LABELS, idx(0 * LABELS), "every label is 0, expected at least two classes"),
    (
        TEST_IMAGES,
        idx(np.zeros((30, 3, 3))),
        f"images of 3 x 3 pixels, but {TRAIN_IMAGES} has images of 4 x 3",
    ),
    (f"{TRAIN_IMAGES}.gz", PACKED[:-9], "truncated: the gzip stream has no end"),
    (f"{TRAIN_IMAGES}.gz", IMAGES, UNSOUND),
    (f"{TRAIN_IMAGES}.gz", PACKED[:-8] + bytes(8), UNSOUND),
    (f"{TRAIN_IMAGES}.gz", PACKED[:12] + b"\xff" * 30, UNSOUND),
]


@pytest.mark.parametrize(("name", "content", "message"), WRONG_FILES)
def test_wrong_file_is_named(folder, name, content, message):
    if name.endswith(".gz"):
        (folder / name.removesuffix(".gz")).unlink()
    (folder / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        load_idx(folder)
    assert str(caught.value).startswith(f"{folder / name}: {message}")


@pytest.mark.parametrize("name", [*NAMES["train"], *NAMES["t10k"]])
def test_missing_file(folder, name):
    (folder / name).unlink()
    message = f"{folder}: there is neither {name} nor {name}.gz"
    with pytest.raises(DataError) as caught:
        load_idx(folder)
    assert str(caught.value) == message


def test_folder_for_a_file(folder):
    (folder / TRAIN_IMAGES).unlink()
    (folder / TRAIN_IMAGES).mkdir()
    with pytest.raises(DataError, match=f"{TRAIN_IMAGES}: Is a directory"):
        load_idx(folder)


def test_test_label_without_training_images(folder):
    (folder / TEST_LABELS).write_bytes(idx(np.arange(30) % 3))
    with pytest.raises(DataError) as caught:
        load_idx(folder)
    assert str(caught.value) == f"{folder}: no training image has the test label 0"


# --- network ----------------------------------------------------------------------


def distance_loss(features, labels):
    """A loss on the features, to be added to the softmax loss."""
    difference = features - labels[:, np.newaxis]
    return 0.5 * float(np.sum(difference**2)), difference


@pytest.mark.parametrize("feature_loss", [None, distance_loss])
@pytest.mark.parametrize("hidden", [(), (7,), (7, 5)])
def test_gradient_against_finite_differences(feature_loss, hidden):
    rng = np.random.default_rng(1)
    network = Network(4, 3, 5, hidden=hidden, dtype=np.float64, rng=rng)
    network.parameters += 0.1 * rng.standard_normal(network.parameters.shape)
    images, labels = rng.standard_normal((6, 4)), np.array([0, 1, 2, 3, 4, 1])

    def loss():
        return network.loss_and_gradient(images, labels, feature_loss)[0]

    gradient = network.loss_and_gradient(images, labels, feature_loss)[1].copy()
    numeric = np.empty_like(gradient)
    for i in range(len(gradient)):
        kept, h = network.parameters[i], 1e-6
        network.parameters[i] = kept + h
        above = loss()
        network.parameters[i] = kept - h
        numeric[i] = (above - loss()) / (2 * h)
        network.parameters[i] = kept
    assert np.abs(numeric - gradient).max() < 1e-7 * max(1, np.abs(gradient).max())


def test_network_is_the_one_described():
    network = Network(64, 2, 10, rng=0)
    weights = 64 * 256 + 256 * 128 + 128 * 2 + 2 * 10
    assert network.num_weights == weights
    assert len(network.parameters) == weights + (256 + 128 + 2) + (256 + 128)
    assert network.parameters.dtype == np.float32
    assert np.array_equal(network.parameters, Network(64, 2, 10, rng=0).parameters)


# --- measures ---------------------------------------------------------------------


def test_scatter_by_hand():
    features = np.array([[1, 0], [-1, 0], [10, 2], [10, -2], [0, 5]], np.float32)
    # The means are (0, 0), (10, 0) and (0, 5); no row is of class 2.
    within, between = scatter(features, np.array([0, 0, 1, 1, 3]))
    assert within == pytest.approx((1 + 1 + 4 + 4 + 0) / 5)
    assert between == pytest.approx((100 + 25 + 125) / 3)


def test_nearest_center_by_hand():
    centers = np.array([[0, 0], [4, 0], [0, 4]], np.float32)
    features = np.array([[1, 1], [3, 1], [-1, 9]], np.float32)
    assert nearest_center(features, centers).tolist() == [0, 1, 2]


# --- command line -----------------------------------------------------------------


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


def numbers(path):
    runs = json.loads(path.read_text())["runs"]
    timed = ("seconds", "seconds_centerloss")
    return [{k: v for k, v in run.items() if k not in timed} for run in runs]


def test_same_seed_same_numbers(run_main, tmp_path):
    found = []
    for i, seed in enumerate(["5", "5", "6"]):
        path = tmp_path / f"{i}.json"
        assert run_main("--epochs", "2", "--seed", seed, "--json", str(path))[0] == 0
        found.append(numbers(path))
    assert found[0] == found[1] != found[2]


def test_runs_do_not_touch_each_other(folder):
    split = load_idx(folder).standardized()
    together = train(split, Settings(loss_weights=(0.0, 0.2), epochs=2))
    for run in together:
        (alone,) = train(split, Settings(loss_weights=(run.loss_weight,), epochs=2))
        assert np.array_equal(alone.network.parameters, run.network.parameters)
        assert np.array_equal(alone.center_loss.centers, run.center_loss.centers)


def test_progress_counts_every_batch(folder):
    losses = []
    settings = Settings(epochs=3, batch_size=40)
    train(load_idx(folder).standardized(), settings, losses.append)
    assert settings.steps_per_epoch(90) == 3
    assert np.array(losses).shape == (3 * 3, 2)
    assert np.all(losses[-1] < losses[0])


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


# --- divergence -------------------------------------------------------------------


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


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_features_without_spread_are_no_result(folder, value):
    split = load_idx(folder).standardized()
    (run,) = train(split, Settings(loss_weights=(0.1,), epochs=1))
    run.network.parameters[:] = value
    with pytest.raises(Divergence, match="loss weight 0.1 and learning rate"):
        evaluate(run, split)


# --- picture ----------------------------------------------------------------------


def drawn(features, scales):
    """The picture of runs whose features are these, one run for each scale."""
    labels = np.arange(len(features)) % 12
    split = Split(features, labels, features, labels, tuple("abcdefghijkl"))
    runs = [
        SimpleNamespace(
            network=SimpleNamespace(features=partial(np.multiply, scale)),
            center_loss=SimpleNamespace(centers=features[:12] * scale),
            settings=Settings(feat_dim=features.shape[1]),
        )
        for scale in scales
    ]
    result = Result(0.1, 0.5, 3, 0.987, 0.9, 1.5, 30.0, 0.05, 12.3, 0.01)
    return report.picture(runs, [result] * len(runs), split)


def limits(axes):
    return np.array([axes.get_xlim(), axes.get_ylim()])


@pytest.mark.parametrize("dim", [2, 5])
def test_picture_shows_every_image_and_center(dim):
    features = np.random.default_rng(0).standard_normal((60, dim))
    figure = drawn(features, [1.0, 1.5, 2.5, 0.1])
    assert len(figure.axes) == 4
    for axes in figure.axes:
        points = np.concatenate([each.get_offsets() for each in axes.collections])
        assert len(points) == 60 + 12
        low, high = limits(axes).T
        assert np.all((low < points) & (points < high))
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == [*"abcdefghijkl", "center"]


def test_axes_are_the_same_or_the_title_says_so():
    features = np.random.default_rng(0).standard_normal((60, 2))
    one, two = drawn(features, [1.0, 1.5]).axes
    assert np.array_equal(limits(one), limits(two))
    assert one.get_title() == "loss weight 0.1\naccuracy 98.7%, ratio 0.050"
    one, two = drawn(features, [4.0, 1.0]).axes
    assert np.allclose(limits(one), 4 * limits(two))
    assert one.get_title().endswith("\nmagnified 1.0\N{MULTIPLICATION SIGN}")
    assert two.get_title().endswith("\nmagnified 4.0\N{MULTIPLICATION SIGN}")


def test_principal_axes_keep_the_widest_directions():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((600, 3)) * [0.01, 1.0, 10.0]
    (axes,) = drawn(features, [1.0]).axes
    points = np.concatenate([each.get_offsets() for each in axes.collections])
    widths = np.ptp(features[:, [2, 1]], axis=0)
    assert np.allclose(np.ptp(points, axis=0), widths, rtol=0.02)
    assert axes.get_xlabel() == "principal axis 1"


def test_no_two_classes_look_the_same():
    styles = [report.style(label) for label in range(50)]
    assert len({tuple(style.items()) for style in styles}) == 50


# --- animation --------------------------------------------------------------------


def frames_of(path):
    """All frames of a GIF as arrays of colors, and how long each is shown."""
    with Image.open(path) as image:
        assert image.format == "GIF"
        arrays, durations = [], []
        for i in range(image.n_frames):
            image.seek(i)
            arrays.append(np.asarray(image.convert("RGB")))
            durations.append(image.info["duration"])
    return arrays, durations


@pytest.mark.parametrize("flags", [[], ["--feat-dim", "5"]])
def test_gif(run_main, tmp_path, flags):
    path = tmp_path / "training.gif"
    flags = ["--epochs", "3", "--loss-weight", "0", "0.1", "1", *flags]
    status, _, errors = run_main(*flags, "--gif", str(path))
    assert (status, errors) == (0, "")
    arrays, durations = frames_of(path)
    # Two batches an epoch: the start, and every step.
    assert len(arrays) == 7
    assert len({array.shape for array in arrays}) == 1
    assert not np.array_equal(arrays[0], arrays[-1])
    assert durations[-1] > 2 * durations[0]


def test_same_numbers_with_and_without_gif(run_main, tmp_path):
    found = []
    for flags in ([], ["--gif", str(tmp_path / "training.gif")]):
        path = tmp_path / "numbers.json"
        assert run_main("--epochs", "2", "--json", str(path), *flags)[0] == 0
        found.append((numbers(path), (tmp_path / "demo.png").read_bytes()))
    assert found[0] == found[1]


def test_nothing_is_recorded_without_gif(run_main, monkeypatch):
    calls = []
    features = Network.features

    def counted(self, images):
        calls.append(len(images))
        return features(self, images)

    monkeypatch.setattr(Network, "features", counted)
    monkeypatch.setitem(sys.modules, "centerloss.demo.animation", None)
    monkeypatch.delattr(centerloss.demo, "animation")
    assert run_main("--epochs", "2")[0] == 0
    # Measured and drawn at the end: two times for each of two runs.
    assert calls == [30] * 4


def test_missing_pillow_is_named(run_main, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.delitem(sys.modules, "centerloss.demo.animation")
    monkeypatch.delattr(centerloss.demo, "animation")
    path = tmp_path / "training.gif"
    status, _, errors = run_main("--epochs", "1", "--gif", str(path))
    assert status == 2
    assert errors == (
        "python -m centerloss.demo: needs PIL: pip install 'centerloss[demo]'\n"
    )
    assert not path.exists()


def test_divergence_leaves_no_gif(run_main, tmp_path):
    path = tmp_path / "training.gif"
    status, _, errors = run_main("--learning-rate", "1e30", "--gif", str(path))
    assert status == 1
    assert errors.count("\n") == 1
    assert "training diverged" in errors
    assert not path.exists()


def test_times_to_look():
    assert animation.times(100, frames=6) == [0, 4, 16, 36, 64, 100]
    assert animation.times(2) == [0, 1, 2]
    many = animation.times(10**6)
    assert len(many) == animation.FRAMES
    assert (many[0], many[-1]) == (0, 10**6)
    assert np.all(np.diff(np.diff(many)) >= -2)


def test_watch_sees_the_runs_before_the_first_step_and_after_each(folder):
    split, seen = load_idx(folder).standardized(), []

    def watch(runs, steps):
        seen.append((steps, [run.network.parameters.copy() for run in runs]))

    runs = train(split, Settings(epochs=2, batch_size=50), watch=watch)
    assert [steps for steps, _ in seen] == [0, 1, 2, 3, 4]
    start, last = seen[0][1], seen[-1][1]
    assert np.array_equal(*start)
    for run, parameters in zip(runs, last, strict=True):
        assert np.array_equal(run.network.parameters, parameters)


@pytest.mark.parametrize(("dim", "count"), [(2, 2000), (2**10, 257), (2**20, 1)])
def test_of_many_images_some_are_shown(dim, count):
    labels = np.arange(5000) // 4999
    images = np.zeros((5000, 1), np.float32)
    rows = animation.choose(Split(images, labels, images, labels, ("a", "b")), dim)
    assert np.all(np.diff(rows) > 0)
    assert count <= len(rows) <= count + 2
    assert set(labels[rows]) == {0, 1}
    few = Split(images[:9], labels[:9], images[:9], labels[:9], ("a", "b"))
    assert animation.choose(few, 2).tolist() == list(range(9))


def filmed(features):
    """The frames of one run whose features and centers are these at each time."""
    moments = [animation.Moment(each, each[:2]) for each in features]
    film = animation.Film("a run", range(len(moments)), moments)
    return animation.draw([film], np.arange(features.shape[1]) % 2, "ab")


def test_frames_have_the_colors_of_the_picture():
    features = np.random.default_rng(0).standard_normal((3, 400, 2))
    for frame in filmed(features):
        found = {color for _, color in frame.convert("RGB").getcolors()}
        for label in range(2):
            rgb = bytes.fromhex(report.style(label)["color"][1:])
            assert tuple(rgb) in found
        assert (255, 255, 255) in found


def test_collapsed_features_are_drawn():
    features = np.random.default_rng(0).standard_normal((2, 6, 2))
    features[1] = 1.0
    first, last = filmed(features)
    assert first.size == last.size


def test_gif_into_memory():
    file = io.BytesIO()
    frames = filmed(np.random.default_rng(0).standard_normal((3, 6, 2)))
    animation.save(frames, file)
    arrays, _ = frames_of(file)
    assert len(arrays) == 3
    for array, frame in zip(arrays, frames, strict=True):
        assert np.array_equal(array, np.asarray(frame.convert("RGB")))
