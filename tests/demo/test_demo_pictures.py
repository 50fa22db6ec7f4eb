"""What the demo draws: the picture and the animation."""

import io
import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import centerloss.demo
from centerloss.demo import (
    Network,
    Result,
    Settings,
    Split,
    animation,
    load_idx,
    report,
    train,
)
from tests.demo.demo_files import numbers


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
    figure = drawn(features, [1.0, 1.5, 2.5, 0.1, 3.0])
    assert len(figure.axes) == 5
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


def test_recorder_looks_now_and_then(folder):
    split, settings = load_idx(folder).standardized(), Settings(epochs=5, batch_size=50)
    recorder = animation.Recorder(split, settings, frames=3)
    runs = train(split, settings, watch=recorder)
    for run, film in zip(runs, recorder.films(), strict=True):
        assert film.epochs == [0, 1, 5]
        assert len(film.moments) == 3
        assert np.array_equal(film.moments[-1].centers, run.center_loss.centers)


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
