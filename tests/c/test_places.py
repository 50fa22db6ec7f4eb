"""Parts of a batch, with the places of their rows, give the bits of the batch, in C."""

import pytest

from tests.helpers.c_builds import TESTS_C, kernel_objects, link
from tests.helpers.processes import posix, run

pytestmark = [
    posix,
    pytest.mark.compiles,
    pytest.mark.thread_unsafe(reason="compiles, and starts threads itself"),
]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("places") / "places"
    return link(path, [TESTS_C / "places.c", *kernel_objects()])


def differing(program, threads, *how):
    """Type, number of classes, differing values of centers, differing rows."""
    isa = run(program).strip().split(", ")[-1]
    lines = run(program, isa, threads, *how).splitlines()
    assert len(lines) == 12
    return [(name, *map(int, rest)) for name, *rest in map(str.split, lines)]


@pytest.mark.parametrize("threads", [1, 2])
def test_parts_with_places(program, threads):
    for name, classes, centers, rows in differing(program, threads):
        assert (centers, rows) == (0, 0), (name, classes)


def test_parts_without_places_have_other_sums(program):
    """In float64. Rounded to float32, they hardly ever differ."""
    lines = differing(program, 2, "without")
    assert all(rows == 0 for _, _, _, rows in lines)
    found = [centers for name, _, centers, _ in lines if name == "float64"]
    assert all(count > 0 for count in found[:2])
    assert found[2] == 0  # all rows are of one segment with and without places


def test_places_that_change_during_the_call(program):
    """Whatever their values are, nothing is read or written outside of an array."""
    differing(program, 2, "garbage")
