# make demo         simulate a recording, process and fit it, compare with the truth
# make up           the REST API with all that it needs, on this machine, until Ctrl-C
# make test         the test suite
# make test-stack   the tests on the whole one-machine stack that take minutes
# make chaos        break the whole stack at random moments, and compare (N=200 SEED=1 DATABASE=sqlite or postgresql)
# make browser      a browser for the tests of the page, where there is none yet
# make lint         formatting, style and types
# make bench        how fast it is here
# make clean        remove the virtual environment and what tools left behind

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
COMPILED := $(VENV)/.compiled
N := 200
SEED := 1
DATABASE := sqlite

.PHONY: demo up test test-stack chaos browser lint bench install clean help
.DEFAULT_GOAL := help

help:
	@sed -n 's/^# make/make/p' Makefile

demo: install
	$(BIN)/pyama demo

up: install
	$(BIN)/pyama up

test: install
	$(BIN)/python -m pytest

test-stack: install
	$(BIN)/python -m pytest -m stack

chaos: install
	$(BIN)/python -m tests.chaos --faults $(N) --seed $(SEED) --database $(DATABASE) --report chaos-$(DATABASE)-$(SEED).json

browser:
	@sh deployments/install_browser.sh

lint: install
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

bench: install
	$(BIN)/python -m pytest benchmarks --benchmark-only --benchmark-disable-gc
	$(BIN)/python -m benchmarks.pipeline
	$(BIN)/python -m benchmarks.merging
	$(BIN)/python -m benchmarks.fitting

install: $(COMPILED)

# An upgrade may have changed kernels; where none has, this takes a second.
$(COMPILED): $(INSTALLED) $(wildcard tasks/*.py tasks/*/*.py)
	$(BIN)/python -m tasks.warm_up
	@touch $@

$(INSTALLED): pyproject.toml constraints.txt
	@sh deployments/make_venv.sh $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .benchmarks .screenshots build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
