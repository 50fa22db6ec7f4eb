# Each target sets up what it needs, in the virtual environment .venv.

VENV := .venv
RUN := $(VENV)/bin/python
# Python compiles modules when they are first imported: most of what is installed never is.
PIP := $(RUN) -m pip install -q --disable-pip-version-check --no-compile
READY := $(VENV)/.ready
C_FILES := $(wildcard csrc/*/*.c csrc/*/*.h)
DOCSTRINGS := csrc/binding/docstrings.py centerloss/reference.py
C_ELSEWHERE := $(wildcard tests/c/*.[ch] tests/fuzz/*.[ch] docs/*.c benchmarks/peers/*.c)

# Tried in this order, unless one is named: `make PYTHON=python3.12 CC=clang test`.
PYTHONS := $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11)
COMPILERS := $(if $(filter default,$(origin CC)),cc gcc clang,"$(CC)")

# Fails if Python is too old, or lacks venv, pip or the headers.
CHECK_PYTHON := -c 'import ensurepip, os, sys, sysconfig, venv; \
	headers = sysconfig.get_path("include"); \
	sys.exit(sys.version_info < (3, 11) or not os.path.exists(headers + "/Python.h"))'

# The flags of `make lint`, and a script that prints those for the headers of others.
WARNINGS := -std=c11 -fsyntax-only -pthread -Wall -Wextra -Wconversion -Werror
HEADERS := 'import numpy, sysconfig; \
	print("-isystem", numpy.get_include(), "-isystem", sysconfig.get_path("include"))'

# $(call first,COMMANDS,ARGUMENTS) prints the first command that succeeds with them.
first = for command in $(1); do \
	$$command $(2) >/dev/null 2>&1 && { echo "$$command"; break; }; done

.PHONY: help demo test check check-weekly lint mypy test-every-isa asan tsan test-mpi \
	test-torch test-slow asan-all coverage valgrind instructions aarch64 windows debug \
	test-parallel types docs wheel fuzz leaks notebooks bench golden \
	instruction-counts clean

help: ## show this
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/make \1	\2/p' Makefile

demo: $(READY) ## train on handwritten digits and draw demo.png
	$(RUN) -m centerloss.demo --out demo.png
	@echo "The picture is $(CURDIR)/demo.png"

test: $(READY) ## run the tests, except those that take long
	$(RUN) -m pytest -n auto -m "not slow"

# In parallel, the longest first; tsan needs no Python. PyTorch is installed last, since
# the other tests would import it too.
check: ## run what every change has to pass, about ten minutes
	tools/steps "-j2 -O CENTERLOSS_WERROR=1 $(READY) tsan" "-j2 -O lint mypy" test \
		"-j2 -O asan test-every-isa" test-mpi test-torch

check-weekly: $(READY) ## run the checks that take longer, about an hour
	tools/weekly

# The parts of `make check`.

lint: $(READY) ## check style and C warnings; the kernels compile without Python.h
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(VENV)/bin/clang-format --dry-run -Werror $(C_FILES) $(C_ELSEWHERE)
	$(CC) $(WARNINGS) -Icsrc/kernels csrc/kernels/*.c docs/*.c \
		$(filter-out %/failing_arrays.c,$(wildcard tests/c/*.c))
	@mkdir -p build/lint
	$(RUN) $(DOCSTRINGS) build/lint/docstrings.h
	$(CC) $(WARNINGS) -Icsrc/kernels -Ibuild/lint $$($(RUN) -c $(HEADERS)) csrc/binding/*.c

mypy: $(READY) ## check the types with mypy
	$(RUN) -m mypy

test-every-isa: $(READY) ## run the tests with each lower instruction set
	tools/every_isa

asan: $(READY) ## run the C harness and most tests under ASan and UBSan
	tools/asan

tsan: ## run the C harness with several threads under ThreadSanitizer
	tools/tsan

test-mpi: $(READY) ## install MPI and run the tests that need it
	$(PIP) -r tests/distributed/requirements.txt
	$(RUN) -m pytest -m "not slow" tests/distributed/test_mpi.py \
		tests/distributed/test_page.py

BENCHMARKS_OF_TORCH = test_peers_compute_the_same test_training_peers_compute_the_same \
	test_runner

test-torch: $(READY) ## install PyTorch and run the tests that need it
	$(PIP) -r tests/torch/requirements.txt
	$(RUN) -m pytest -n auto -m "not slow" tests/torch centerloss/torch \
		$(addprefix tests/project/test_benchmarks.py::,$(BENCHMARKS_OF_TORCH))

# The parts of `make check-weekly`.

test-slow: $(READY) ## run the tests that take long
	$(PIP) -r tests/torch/requirements.txt -r tests/torch/requirements-frameworks.txt \
		-r tests/distributed/requirements.txt
	$(RUN) -m pytest -n auto -m slow

asan-all: $(READY) ## as asan, with all tests of the kernels and all checks
	tools/asan all

coverage: $(READY) ## check that the tests run every line, and most branches of the C
	tools/coverage

valgrind: $(READY) ## run some tests, and all failures of allocations, under Valgrind
	tools/valgrind

instructions: $(RUN) ## check that three steps take as many instructions as before
	$(RUN) tools/instructions

aarch64: ## check that an emulated AArch64 gives the same bits
	tools/aarch64

windows: ## check that a Windows build, run by Wine, gives the same bits
	tools/windows

debug: $(READY) ## run the tests in development mode, and in a debug build of Python
	tools/debug

test-parallel: $(READY) ## run each test on two threads at once, where it allows that
	$(PIP) pytest-run-parallel
	$(RUN) -m pytest -q --parallel-threads=2 \
		-m "not slow and not compiles and not reference" \
		tests/functions tests/promises tests/center_loss

types: $(READY) ## check the types with mypy and pyright, and the stubs against the C
	$(PIP) -r tests/torch/requirements.txt
	$(RUN) -m mypy
	$(RUN) -m pyright
	$(RUN) -m mypy.stubtest centerloss --mypy-config-file pyproject.toml \
		--allowlist tests/typing/allowed.txt

docs: $(READY) ## build the documentation in build/docs
	$(PIP) -r tests/torch/requirements.txt -e '.[docs]'
	$(RUN) -m sphinx -W --keep-going -n -q -b html docs build/docs
	$(RUN) docs/check_links.py build/docs

wheel: ## build the wheel from the sdist, and test it with each CPython found
	tools/wheel

fuzz: $(READY) ## fuzz the C for two minutes, and make 20 000 random calls from Python
	tools/fuzz 120
	$(RUN) -m pytest -q tests/fuzz/test_calls.py --hypothesis-profile=fuzz

leaks: $(READY) ## call each function 10 000 times, and kill a saving process 50 times
	$(RUN) -m tests.isolated.leaks --calls 10000
	$(RUN) -m tests.isolated.kill_saves --times 50

# What writes files of the repository.

notebooks: $(READY) ## execute the notebooks in place
	$(RUN) notebooks/execute.py

bench: $(READY) ## time a step and the alternatives, about five minutes
	$(PIP) -r benchmarks/requirements.txt
	$(RUN) -m benchmarks

golden: $(READY) ## rewrite the golden hashes, after an intended change of bits
	$(RUN) tools/regenerate_golden

instruction-counts: $(RUN) ## rewrite the counts, after an intended change of them
	$(RUN) tools/instructions --write

clean: ## remove what the other targets made
	rm -rf $(VENV) build *.egg-info centerloss/*.so demo.png
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache notebooks/.ipynb_checkpoints
	find centerloss tests -name __pycache__ -prune -exec rm -rf {} +

# The package, editable, with its C compiled; again when one of these files changes.
$(READY): $(RUN) pyproject.toml setup.py $(DOCSTRINGS) $(C_FILES)
	@compiler=$$($(call first,$(COMPILERS),--version)); \
	test -n "$$compiler" || { echo 'No C compiler (tried $(COMPILERS)):' \
		'install one, or name it with make CC=...' >&2; exit 1; }; \
	set -x; CC="$$compiler" $(PIP) -e '.[test,dev]'
	@touch $@

$(RUN):
	@python=$$($(call first,$(PYTHONS),$(CHECK_PYTHON))); \
	test -n "$$python" || { echo 'No Python >= 3.11 with venv, pip and C headers' \
		'(tried $(PYTHONS)): install one (on Debian python3-dev and' \
		'python3-venv), or name it with make PYTHON=...' >&2; exit 1; }; \
	set -x; "$$python" -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
