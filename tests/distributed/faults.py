"""Faults of one rank: wrong batches, other settings and calls; and what is raised."""

import numpy as np

FAULTY = 1  # the rank


def outcome(function, *arguments, **options):
    """What is raised, as text, or None."""
    try:
        function(*arguments, **options)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


# --- messages -------------------------------------------------------------------------


def on_faulty_rank(text, on_others, ranks):
    """The outcomes of all ranks."""
    return [text if rank == FAULTY else on_others for rank in range(ranks)]


def refused(ranks):
    return (
        f"ValueError: the call is refused on ranks [1] of {ranks}, where the error "
        "says why"
    )


def failed(ranks, rank=FAULTY):
    return (
        f"RuntimeError: saving or loading failed on ranks [{rank}] of {ranks}, where "
        "the error says why"
    )


def incomplete(ranks, on=(FAULTY,)):
    return (
        "RuntimeError: the last change of the centers is incomplete on ranks "
        f"{list(on)} of {ranks}: load a checkpoint on all ranks"
    )


def different_settings(name):
    return (
        f"ValueError: the ranks have different settings: {name}; expected the same on "
        "all"
    )


def different_calls(name, ranks):
    """While the others step."""
    calls = on_faulty_rank(name, "step", ranks)
    return f"ValueError: the ranks call {calls}, expected the same on all"


# --- what is wrong --------------------------------------------------------------------


def change(values, index, value):
    changed = values.copy()
    changed[index] = value
    return changed


# Changes of nine rows of five values, and what is raised.
WRONG_BATCHES = {
    "label": (
        lambda x, y, w: (x, change(y, 2, 30), w),
        "IndexError: labels[2] is 30, but there are 30 classes (0 to 29)",
    ),
    "dtype": (
        lambda x, y, w: (x.astype(np.float64), y, w),
        "TypeError: features has dtype float64, but centers has float32: pass "
        "features.astype(np.float32)",
    ),
    "fewer labels": (
        lambda x, y, w: (x, y[:-1], w),
        "ValueError: labels has shape (8,), expected (9,): one label per row of "
        "features",
    ),
    "fewer weights": (
        lambda x, y, w: (x, y, w[1:]),
        "ValueError: sample_weight has shape (8,), expected (9,): one weight per row "
        "of features",
    ),
    "weight": (
        lambda x, y, w: (x, y, change(w, 3, -1)),
        "ValueError: sample_weight[3] is -1.0, expected a finite number >= 0",
    ),
    "wider rows": (
        lambda x, y, w: (np.concatenate([x, x[:, :1]], axis=1), y, w),
        "ValueError: features has 6 values per row, but centers has 5: shapes (9, 6) "
        "and (30, 5)",
    ),
    "one number": (
        lambda x, y, w: (x[0, 0], y, w),
        "ValueError: features has shape (), expected (rows, ...)",
    ),
}
METHODS = {
    "call": lambda loss_fn, *batch: loss_fn(*batch),
    "value_and_grad": lambda loss_fn, *batch: loss_fn.value_and_grad(*batch),
    "step": lambda loss_fn, *batch: loss_fn.step(*batch),
    "update": lambda loss_fn, *batch: loss_fn.update(*batch),
}
OTHER_SETTINGS = {
    "alpha": 0.25,
    "loss_weight": 2.0,
    "reduction": "sum",
    "normalize": False,
    "ignore_index": 3,
    "skip_nonfinite": False,
    "over": "rank",
}

# Instead of a step, given a batch and a folder.
CALLS = {
    "loss": lambda loss_fn, batch, _: loss_fn(*batch),
    "update": lambda loss_fn, batch, _: loss_fn.update(*batch),
    "init_centers": lambda loss_fn, batch, _: loss_fn.init_centers(*batch[:2]),
    "save": lambda loss_fn, _, folder: loss_fn.save(folder),
    "load": lambda loss_fn, _, folder: loss_fn.load(folder),
}
