"""A worker thread reads features of a memory-mapped file that has been truncated."""

import faulthandler
import os
import tempfile

import numpy as np

import centerloss

ROWS, COLUMNS = 5000, 256  # enough for two threads

if __name__ == "__main__":
    faulthandler.enable()
    centerloss.set_num_threads(2)
    centers = np.zeros((1, COLUMNS), np.float32)
    with tempfile.NamedTemporaryFile() as file:
        shape = (ROWS, COLUMNS)
        features = np.memmap(file.name, np.float32, "w+", shape=shape)
        # The first half, which the calling thread reads, remains.
        os.truncate(file.name, features.nbytes // 2 + (1 << 16))
        print(centerloss.loss(features, np.zeros(ROWS, int), centers))
