"""`isolated_label DEVICE` prints the error that a label out of range raises."""

import sys

import torch

from tests.torch.batches import batch, module


def error_of_a_label():
    embeddings, labels, _ = batch()
    try:
        module()(embeddings, labels + 7).item()
    except (IndexError, RuntimeError) as error:
        return "IndexError" if isinstance(error, IndexError) else "RuntimeError"
    return "none"


if __name__ == "__main__":
    with torch.device(sys.argv[1]):
        print(error_of_a_label())
