"""CenterClassifier against scikit-learn's own checks, and the import of both."""

import sys

from sklearn.utils.estimator_checks import parametrize_with_checks

from centerloss.sklearn import CenterClassifier
from tests.helpers.processes import run


@parametrize_with_checks(
    [
        CenterClassifier(),
        CenterClassifier("cosine"),
        CenterClassifier(learning_rate=0.5),
        CenterClassifier(shrink_threshold=0.5),
    ]
)
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


def test_scikit_learn_is_optional():
    """`import centerloss` works without it, and does not import it."""
    script = (
        "import sys, centerloss\n"
        "assert 'sklearn' not in sys.modules\n"
        "sys.modules['sklearn'] = None  # as if it was not installed\n"
        "try:\n"
        "    import centerloss.sklearn\n"
        "except ImportError as error:\n"
        "    print(type(error).__name__, error.name)\n"
        "print(centerloss.get_num_threads() > 0)\n"
    )
    printed = run(sys.executable, "-c", script)
    assert printed.splitlines() == ["ModuleNotFoundError sklearn", "True"]
