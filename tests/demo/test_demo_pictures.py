"""The picture and the animation of the demo."""

import io
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from centerloss.demo import (
    Result,
    Settings,
    Split,
    animation,
    load_idx,
    report,
    train,
)


def drawn(features, scales):
    """Return the picture of runs with these features, scaled differently for each."""
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


@pytest.mark.parametrize(("dim", "scales"), [(2, [1, 1.5, 2.5, 0.1, 3]), (5, [1, 2])])
def test_picture_shows_every_image_and_center(dim, scales):
    features = np.random.default_rng(0).standard_normal((60, dim))
    figure = drawn(features, scales)
    assert len(figure.axes) == len(scales)
    for axes in figure.axes:
        points = np.concatenate([each.get_offsets() for each in axes.collections])
        assert len(points) == 60 + 12
        low, high = limits(axes).T
        assert np.all((low < points) & (points < high))
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == [*"abcdefghijkl", "center"]


def test_panels_have_the_same_limits_or_a_magnification():
    features = np.random.default_rng(0).standard_normal((60, 2))
    one, two = drawn(features, [1.0, 1.5]).axes
    assert np.array_equal(limits(one), limits(two))
    assert one.get_title() == (
        "loss weight 0.1: ratio 0.050\naccuracy 98.7%, nearest center 90.0%"
    )
    one, two = drawn(features, [4.0, 1.0]).axes
    assert np.allclose(limits(one), 4 * limits(two))
    assert one.get_title().endswith("\nmagnified 1.0\N{MULTIPLICATION SIGN}")
    assert two.get_title().endswith("\nmagnified 4.0\N{MULTIPLICATION SIGN}")


def test_plane_has_the_widest_directions():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((600, 3)) * [0.01, 1.0, 10.0]
    middle, axes = report.plane(features)
    widths = np.ptp(features[:, [2, 1]], axis=0)
    assert np.allclose(np.ptp((features - middle) @ axes, axis=0), widths, rtol=0.02)


def test_every_class_has_its_own_style():
    styles = [report.style(label) for label in range(50)]
    assert len({tuple(style.items()) for style in styles}) == 50


# --- animation --------------------------------------------------------------------


def frames_of(path):
    """Return all frames of a GIF as arrays of colors, and their durations."""
    with Image.open(path) as image:
        assert image.format == "GIF"
        arrays, durations = [], []
        for i in range(image.n_frames):
            image.seek(i)
            arrays.append(np.asarray(image.convert("RGB")))
            durations.append(image.info["duration"])
    return arrays, durations


def assert_shows_a_training(path, num_frames):
    arrays, durations = frames_of(path)
    assert len(arrays) == num_frames
    assert len({array.shape for array in arrays}) == 1
    assert not np.array_equal(arrays[0], arrays[-1])
    assert durations[-1] > 2 * durations[0]


def test_gif(finished):
    # A frame before the first step and one after each: 2 steps per epoch.
    assert_shows_a_training(finished.gif, 1 + 2 * 3)


def test_gif_of_many_dimensions_and_one_step_per_epoch(run_main, tmp_path):
    path = tmp_path / "training.gif"
    flags = ["--epochs", "2", "--feat-dim", "5", "--batch-size", "1000000"]
    assert run_main(*flags, "--gif", path)[0] == 0
    assert_shows_a_training(path, 1 + 2)


def test_times():
    assert animation.times(100, frames=6) == [0, 4, 16, 36, 64, 100]
    assert animation.times(2) == [0, 1, 2]
    many = animation.times(10**6)
    assert len(many) == animation.FRAMES
    assert (many[0], many[-1]) == (0, 10**6)
    assert np.all(np.diff(np.diff(many)) >= -2)


def test_recorder(folder):
    split, settings = load_idx(folder).standardized(), Settings(epochs=5, batch_size=50)
    recorder = animation.Recorder(split, settings, frames=3)
    runs = train(split, settings, watch=recorder)
    for run, film in zip(runs, recorder.films(), strict=True):
        assert film.epochs == [0, 1, 5]
        assert len(film.moments) == 3
        assert np.array_equal(film.moments[-1].centers, run.center_loss.centers)


@pytest.mark.parametrize(("dim", "count"), [(2, 2000), (2**10, 257), (2**20, 1)])
def test_a_sample_of_many_images_is_shown(dim, count):
    labels = np.arange(5000) // 4999
    images = np.zeros((5000, 1), np.float32)
    rows = animation.choose(Split(images, labels, images, labels, ("a", "b")), dim)
    assert np.all(np.diff(rows) > 0)
    assert count <= len(rows) <= count + 2
    assert set(labels[rows]) == {0, 1}
    few = Split(images[:9], labels[:9], images[:9], labels[:9], ("a", "b"))
    assert animation.choose(few, 2).tolist() == list(range(9))


def filmed(features):
    """Return the frames of a run with these features at each time."""
    moments = [animation.Moment(each, each[:2]) for each in features]
    film = animation.Film("a run", range(len(moments)), moments)
    return animation.draw([film], np.arange(features.shape[1]) % 2, "ab")


def test_frames_have_the_colors_of_the_picture_even_of_collapsed_features():
    features = np.random.default_rng(0).standard_normal((3, 400, 2))
    features[1] = 1.0
    file = io.BytesIO()
    animation.save(filmed(features), file)
    arrays, _ = frames_of(file)
    assert len(arrays) == 3
    for array in (arrays[0], arrays[2]):
        found = set(map(tuple, array.reshape(-1, 3).tolist()))
        for label in range(2):
            assert tuple(bytes.fromhex(report.style(label)["color"][1:])) in found
        assert (255, 255, 255) in found
