# Two commands do everything in a clean clone: `make demo` and `make test`.
# They need Python >= 3.11 with headers, a C compiler and make.
PYTHON ?= python3
PYTEST_ARGS ?= -q -m "not heavy"
VENV   ?= .venv
BIN    := $(VENV)/bin
# That there is a newer pip is no news of this project.
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test check docs bench wheels clean asan tsan

demo: $(VENV)/.installed
	@$(BIN)/python -m treadle.examples.demo

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation as a site, in build/site; a broken link is an error.  That its programs run is seen by the tests.
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Every row on every Python that is present (BENCH_PYTHONS="..." says which, besides this one), in environments of their own
# below build/bench; then benchmarks/RESULTS.md and its pictures.  `make bench QUICK=1`: a fifth of it, on this Python only,
# with its report in build/bench.  ONLY="pool sync": only these, anew.  RUN="taskset -c 0" goes before each row.
bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks.runner $(if $(QUICK),--quick) --groups "$(ONLY)" --prefix "$(RUN)"

# An sdist, and of it a wheel for each of WHEEL_PYTHONS that installs without a compiler, in dist.
WHEEL_PYTHONS ?= $(BIN)/python
wheels: $(VENV)/.installed
	@rm -rf build/wheels dist && mkdir -p build/wheels
	@echo "building an sdist, and wheels for $(WHEEL_PYTHONS) ..."
	@($(BIN)/pip install -e '.[release]' && $(BIN)/python -m build --sdist && \
	for python in $(WHEEL_PYTHONS); do $$python -m pip wheel --no-deps -w build/wheels dist/*.tar.gz || exit 1; done && \
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/auditwheel repair --strip -w dist build/wheels/*.whl; \
	) >build/wheels/log 2>&1 || { cat build/wheels/log; exit 1; }
	@ls dist

# The native core under a sanitizer, in a build of its own. TSAN means most with a free-threaded Python, better still one
# that was configured --with-thread-sanitizer: `make tsan PYTHON_TSAN=that/python`.
SANITIZED_TESTS ?= tests/contract/test_primitives.py tests/contract/test_queues.py tests/unit/test_deadlock.py \
	tests/unit/test_threads.py tests/unit/test_queue_more.py tests/unit/test_rwlock.py tests/stress/test_threads_hard.py \
	tests/unit/test_lanes.py tests/unit/test_inbox.py tests/contract/test_futures.py tests/contract/test_pool.py \
	tests/contract/test_shared_queues.py
PYTHON_TSAN ?= $(BIN)/python
RUNTIME = $(shell $(CC) -print-file-name=lib$(1).so)

asan: $(VENV)/.installed-dev
	TREADLE_SANITIZE=address $(BIN)/python setup.py -q build --build-base build/asan --build-lib build/asan/lib
	PYTHONPATH=build/asan/lib LD_PRELOAD=$(call RUNTIME,asan) ASAN_OPTIONS=detect_leaks=0:use_sigaltstack=0 \
		PYTHONMALLOC=malloc $(BIN)/python -m pytest -q -m "not heavy" -p no:cacheprovider $(SANITIZED_TESTS)

tsan: $(VENV)/.installed-dev
	TREADLE_SANITIZE=thread $(PYTHON_TSAN) setup.py -q build --build-base build/tsan --build-lib build/tsan/lib
	PYTHONPATH=build/tsan/lib LD_PRELOAD=$(call RUNTIME,tsan) TSAN_OPTIONS="exitcode=66 die_after_fork=0 $(TSAN_OPTIONS)" \
		$(PYTHON_TSAN) -m pytest -q -m "not heavy" -p no:cacheprovider $(SANITIZED_TESTS)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("treadle needs Python 3.11 or later; $(PYTHON) is \
	%d.%d.  Another one: make PYTHON=python3.13 ..." % sys.version_info[:2])'
	@echo "installing into $(VENV) ..."
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# The native core is compiled when it is installed: so whoever pulls a change of it gets it.
$(VENV)/.installed: $(VENV)/bin/python pyproject.toml setup.py $(wildcard src/treadle/_native/*.[ch] src/treadle/_native/*/*.[ch])
	@$(BIN)/pip install -q -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed pyproject.toml
	@$(BIN)/pip install -q -e '.[dev]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed pyproject.toml
	@$(BIN)/pip install -q -e '.[docs]'
	@touch $@

clean:
	rm -rf $(VENV) build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
