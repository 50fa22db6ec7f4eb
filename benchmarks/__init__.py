"""Center loss compared with the alternatives; see README.md."""

import os

# BLAS threads spin for a while after a matrix product and would slow down whatever is
# timed next. NumPy reads this when it is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
