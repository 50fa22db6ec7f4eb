"""Center loss side by side with what a user would pick instead.

``python -m benchmarks`` runs everything; README.md says how it is measured.
"""

import os

# NumPy's threads for matrix products spin for a while after each of them, on the
# processors of whatever is timed next. Set before NumPy comes, in the runner.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
