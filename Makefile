# Each target does its whole set-up, in a virtual environment of its own.

VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
C_FILES := $(wildcard csrc/*/*.c csrc/*/*.h)
C_ELSEWHERE := $(wildcard tests/c/*.c tests/c/*.h tests/fuzz/*.c tests/fuzz/*.h docs/*.c)

# What is tried, unless a name is given as in `make PYTHON=python3.12 CC=clang test`.
PYTHONS := $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11)
COMPILERS := $(if $(filter default,$(origin CC)),cc gcc clang,"$(CC)")

# It has to be new enough, and to come with venv, pip and the headers.
CHECK_PYTHON := -c 'import ensurepip, os, sys, sysconfig, venv; \
	headers = sysconfig.get_path("include"); \
	sys.exit(sys.version_info < (3, 11) or not os.path.exists(headers + "/Python.h"))'

# $(call first,COMMANDS,ARGUMENTS) prints the first command that succeeds with them.
first = for command in $(1); do \
	$$command $(2) >/dev/null 2>&1 && { echo "$$command"; break; }; done

.PHONY: help demo notebooks docs test test-torch test-every-isa test-parallel aarch64 windows asan tsan valgrind debug \
	coverage fuzz leaks bench lint types wheel clean

help: ## show this
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/make \1	\2/p' Makefile

demo: $(READY) ## train on handwritten digits and draw demo.png
	$(RUN) -m centerloss.demo --out demo.png
	@echo "The picture is $(CURDIR)/demo.png"

notebooks: $(READY) ## execute the notebooks in place
	$(RUN) notebooks/execute.py

test: $(READY) ## run the tests
	$(RUN) -m pytest -n auto

# They run the same whatever CENTERLOSS_ISA says: C of their own, with each instruction
# set, or none.
ANY_ISA := $(addprefix --ignore tests/test_,allocation_failures.py benchmarks.py \
	c_example.py c_harness.py notebooks.py sdist.py thread_failures.py typing.py) \
	--deselect tests/test_fuzz.py::test_corpus \
	--deselect tests/test_fuzz.py::test_random_batches

test-every-isa: $(READY) ## run the tests with the lesser instruction sets, where they are
	@for isa in x86-64-v2 x86-64-v3; do \
		CENTERLOSS_ISA=$$isa $(RUN) -c 'import centerloss' 2>/dev/null \
			|| { echo "No $$isa here"; continue; }; \
		echo "CENTERLOSS_ISA=$$isa"; \
		CENTERLOSS_ISA=$$isa $(RUN) -m pytest -q -n auto $(ANY_ISA) || exit 1; done

test-parallel: $(READY) ## run each test on two threads at once, where it can be
	$(RUN) -m pip install -q --disable-pip-version-check pytest-run-parallel
	$(RUN) -m pytest --parallel-threads=2 --ignore tests/test_benchmarks.py \
		--ignore tests/demo --ignore tests/test_docs.py \
		--ignore tests/test_notebooks.py --ignore tests/test_typing.py \
		--ignore tests/pytorch tests

test-torch: $(READY) ## run the tests that need PyTorch, which it installs
	$(RUN) -m pip install -q --disable-pip-version-check \
		-r tests/pytorch/requirements.txt
	$(RUN) -m pytest -n auto tests/pytorch centerloss/torch tests/test_benchmarks.py \
		tests/test_notebooks.py -k "not notebooks or pytorch"

aarch64: ## check that an emulated AArch64 gives the same bits
	tests/c/aarch64.sh

windows: ## check that a Windows build, run by Wine, gives the same bits
	tests/c/windows.sh

asan: $(READY) ## run the tests and the C harness under ASan and UBSan
	.ci/asan

tsan: ## check that calls with many threads, and calls side by side, do not race
	.ci/tsan

valgrind: $(READY) ## run some of the tests, and all failures of memory, under Valgrind
	.ci/valgrind

debug: $(READY) ## run the tests in development mode, and in a debug build of Python
	.ci/debug

coverage: $(READY) ## check that the tests run each line, and the branches
	.ci/coverage

fuzz: $(READY) ## fuzz the C for ten minutes, then a million calls from Python
	tests/fuzz/contract.sh 600
	$(RUN) tests/fuzz/arguments.py --calls 1000000 --seed 1

leaks: $(READY) ## call each function 100 000 times, and kill a saving process 200 times
	$(RUN) tests/isolated/leaks.py --calls 100000
	$(RUN) tests/isolated/kill_saves.py --times 200

bench: $(READY) ## time a step side by side with the alternatives, some five minutes
	$(RUN) -m pip install -q --disable-pip-version-check \
		-r benchmarks/requirements.txt
	$(RUN) -m benchmarks

lint: $(READY) ## check the style, and that the C compiles without a warning
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(VENV)/bin/clang-format --dry-run -Werror $(C_FILES) $(C_ELSEWHERE)
	CENTERLOSS_WERROR=1 $(RUN) setup.py -q build_ext --force \
		--build-lib build/lint --build-temp build/lint

types: $(READY) ## check the types, and the stubs against the C
	$(RUN) -m pip install -q --disable-pip-version-check \
		-r tests/pytorch/requirements.txt
	$(RUN) -m mypy
	$(RUN) -m pyright
	$(RUN) -m mypy.stubtest centerloss --mypy-config-file pyproject.toml

wheel: ## build the wheel from the sdist, look at it, and test it with each CPython here
	.ci/wheel

docs: $(READY) ## build the pages in build/docs
	$(RUN) -m pip install -q --disable-pip-version-check \
		-r tests/pytorch/requirements.txt -e '.[docs]'
	$(RUN) -m sphinx -W --keep-going -n -q -b html docs build/docs
	$(RUN) docs/check_links.py build/docs

clean: ## remove what the other targets made
	rm -rf $(VENV) build *.egg-info centerloss/*.so demo.png
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache notebooks/.ipynb_checkpoints
	find centerloss tests -name __pycache__ -prune -exec rm -rf {} +

# The package, editable, with its C compiled; made anew when one of these changes.
$(READY): $(RUN) pyproject.toml setup.py $(C_FILES)
	@compiler=$$($(call first,$(COMPILERS),--version)); \
	test -n "$$compiler" || { echo 'No C compiler (tried $(COMPILERS)):' \
		'install one, or name it with make CC=...' >&2; exit 1; }; \
	set -x; CC="$$compiler" \
		$(RUN) -m pip install -q --disable-pip-version-check -e '.[test,dev]'
	@touch $@

$(RUN):
	@python=$$($(call first,$(PYTHONS),$(CHECK_PYTHON))); \
	test -n "$$python" || { echo 'No Python >= 3.11 with venv, pip and C headers' \
		'(tried $(PYTHONS)): install one (on Debian python3-dev and' \
		'python3-venv), or name it with make PYTHON=...' >&2; exit 1; }; \
	set -x; "$$python" -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
