# SPDX-License-Identifier: MIT
# noid: everything a newcomer types. Needs root, Debian and Python 3.11 or newer.
#
#   make demo    installs what is missing and shows a connection outlive its provider
#   make test    installs what is missing and runs every check: make test WORKERS=1
#   make check   lint, types and the pure tests; without root
#   make lint    format, lint and types alone
#   make help    lists these targets
#   make fuzz    fuzzes decoders, engine, stub and state files for a minute each: make fuzz SECONDS=600
#   make differential  plays generated packets before every parser: make differential COUNT=1000000
#   make mutation  says how many changes of wire/ and engine/ tests notice: make mutation SAMPLE=600 SEED=1
#   make wheel   builds the wheel for this kind of machine into dist/
#   make deb     builds the package for Debian 12 and 13 into dist/
#   make docs    builds the documentation site into build/site/, its links checked
#   make clean   removes the virtual environment and what the tools left

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# noid with what its commands need, and the same with the tools of its developers.
RUNS := $(VENV)/.runs
READY := $(VENV)/.ready

# Each daemon of a lab would compile noid anew.
unexport PYTHONDONTWRITEBYTECODE

# How many processes run the tests that can run beside others: labs wait most of the time.
WORKERS ?= $(shell expr 2 '*' $$(nproc))
PYTEST = $(BIN)/pytest --durations=20
FILES = --dist loadfile --no-loadscope-reorder
REPEAT = echo "repeats alone what has failed:"; $(BIN)/pytest --last-failed --last-failed-no-failures none -v
COUNT ?= 100000
SAMPLE ?= 600
SEED ?= 1

.PHONY: demo test check help lint fuzz differential mutation wheel deb docs clean debian

demo: debian $(RUNS)
	$(BIN)/noid lab demo

# A file is run by one process; then, one test at a time, what measures time or needs the machine for itself
# ("alone"). What failed is repeated once, alone: a lab that lost a race beside others passes then, and the
# output names it; a fault fails again, at the end of the output. Not after an interrupted run.
test: lint debian
	@scripts/make-debian-13
	status=0; \
	  $(PYTEST) --cache-clear -n $(WORKERS) $(FILES) -m "not alone" || status=$$?; \
	  [ $$status -le 1 ] || exit $$status; \
	  $(PYTEST) -m alone $$(grep -rl --include='test_*.py' mark.alone tests) || status=$$?; \
	  [ $$status -ne 1 ] || { $(REPEAT); status=$$?; }; exit $$status

# What needs no root and no Debian packages.
check: lint
	$(BIN)/pytest -q -n $(WORKERS) -m "not slow and not lab" tests/wire tests/flows tests/shares tests/engine \
	  tests/test_architecture.py tests/test_counters.py tests/test_config.py tests/test_text.py

help:
	@sed -n 's/^#   \(make .*\)/\1/p' $(MAKEFILE_LIST)

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

fuzz: $(READY)
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	$(BIN)/python -m tests.fuzz $(SECONDS) $(TARGETS)

differential: $(READY)
	$(BIN)/python -m tests.differential $(COUNT) $(SEED)
	$(BIN)/python -m tests.border $(COUNT) $(SEED)

mutation: $(READY)
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[mutation]'
	nice -n 15 $(BIN)/python -m tests.mutation --sample $(SAMPLE) --seed $(SEED) $(TESTS)

wheel: $(RUNS)
	$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

deb: debian $(RUNS)
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[deb]'
	$(BIN)/python scripts/make-deb dist

docs: $(READY)
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The lab runs real servers and programs; the tests watch them with real tools.
debian:
	@scripts/install-debian-packages

$(RUNS): pyproject.toml scripts/make-venv hatch_build.py $(wildcard src/noid/planes/bpf/programs/*.[ch])
	@scripts/make-venv $(PYTHON) $(VENV)
	@touch $@

$(READY): $(RUNS)
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .fuzz .coverage
	find src tests -name __pycache__ -prune -exec rm -rf {} +
