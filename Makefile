# Two commands do everything: `make demo` and `make test`. Only Python 3.11 to 3.13, make and pip are needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Photos of `make demo`; empty means two sample photos.
IMAGES ?=

# Some machines keep Python from writing what it compiles: each of the suite's processes would do it anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test soak check site bench lock lock-peers fuzz clean

# Everything is installed from hashed lock files; the project itself is installed without looking for dependencies.
$(VENV)/.runtime: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "Python 3.11 to 3.13 is needed: make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) ..."
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-compile --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.runtime
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-compile --require-hashes -r requirements-dev.lock
	@touch $@

demo: $(VENV)/.runtime
	@set -e; photos="$(IMAGES)"; if [ -z "$$photos" ]; then photos=$$($(BIN)/fleet-worker samples $(VENV)/samples); fi; \
	if [ -e "$$photos" ]; then set -- "$$photos"; else set -- $$photos; fi; $(BIN)/fleet detect --local --draw demo "$$@"

# Four processes: most tests wait for workers to start, and each has its own server. TESTS="tests/unit -n 0" for some.
# In the order they are written in, so that a run can be repeated; SEED=7 shuffles them. The order of files as well: the
# unit tests, of which none is long, come last and leave no process without work.
TESTS ?= tests
test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder --durations=20 $(if $(SEED),--randomly-seed=$(SEED),-p no:randomly) $(TESTS)

$(VENV)/.bench: requirements-bench.lock $(VENV)/.runtime
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-bench.lock
	@touch $@

# All figures of README: about two hours on a quiet machine. BENCH="--rounds 2 --seconds 1" for a quick look.
bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks --model centerface $(BENCH)
	$(BIN)/python -m benchmarks --model blazeface_short $(BENCH)

# Twenty minutes of chaos; SEED=7 repeats one. The suite has a short form.
soak: $(VENV)/.dev
	$(BIN)/python -m tests.soak.run --images 20000 $(if $(SEED),--seed $(SEED)) $(if $(LOG),--log $(LOG))

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(MAKE) --no-print-directory site

# The documentation, into build/site; strict: a dead link or a docstring that cannot be read ends it.
site: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --site-dir build/site

# Needs uv. Universal: one lock for every supported Python and platform.
COMPILE := uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	--custom-compile-command "make lock" pyproject.toml packaging.in
lock:
	$(COMPILE) --extra local -o requirements.lock
	$(COMPILE) --extra dev -c requirements.lock -o requirements-dev.lock
	$(COMPILE) --extra bench -c requirements.lock -o requirements-bench.lock
	$(COMPILE) --extra worker --extra flower --extra otel -c requirements.lock -o requirements-image.lock

# The other servers of the bench, each in an environment of its own.
lock-peers:
	for peer in benchmarks/peers/*/; do uv pip compile -q --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command "make lock-peers" $$peer/requirements.in -o $$peer/requirements.txt; done

# Coverage-guided fuzzing, for Linux on x86-64; what was found is in docs/fuzzing.md.
FUZZ_SECONDS ?= 120
fuzz: $(VENV)/.dev
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r tests/hostile/fuzz-requirements.txt
	set -e; for target in decode message result; do $(BIN)/python -m tests.hostile.fuzz $$target $(FUZZ_SECONDS); done

clean:
	rm -rf $(VENV) .fuzz demo build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
