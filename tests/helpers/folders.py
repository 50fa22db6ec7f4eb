"""Saving to a folder in one process, as the ranks of a job do together."""

from centerloss import _folders


def save(folder, centers, settings, parts=3, piece=None):
    """Write all parts and the index; returns the parts that have rows."""
    token = _folders.new_token()
    rows = -(-len(centers) // parts)
    written = []
    for number in range(parts):
        first = min(number * rows, len(centers))
        last = min(first + rows, len(centers))
        part = _folders.write_part(
            folder, token, number, parts, first, last,
            piece or (lambda a, b: centers[a:b]),
        )  # fmt: skip
        written += [part] if part else []
    shape = centers.shape
    _folders.write_index(folder, written, shape, centers.dtype, settings)
    return written


def names(parts):
    """The files of a saved folder."""
    return sorted(["index.json", *(part.file for part in parts)])
