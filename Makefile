# Works on a machine that has only make and Python 3.11 or newer: everything else goes to .venv.
# Another interpreter: make test PYTHON=python3.13 (.venv is made anew when its version changes).
# Some of the tests only: make test PYTEST_ARGS="tests/tcp -k modulo"
# All of them share the processors; some begin sooner than workers do (add -n 2 where it pays).

PYTHON ?= python3
PYTEST_ARGS ?= --numprocesses=logical --maxprocesses=4
BIN := .venv/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null)
MADE := .venv/.python-$(or $(VERSION),missing)

.DEFAULT_GOAL := help
.PHONY: help demo test check check-format check-lint check-types check-layers bench readme clean
.DELETE_ON_ERROR:

help: ## what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' Makefile

demo: .venv/.has-demo ## play simultaneous-close and show both ends' states
	@$(BIN)/tcpwatch run simultaneous-close

test: .venv/.has-test ## every test; those that this machine cannot run are skipped with the reason
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

check: check-format check-lint check-types check-layers ## format, lint, types, layers

check-format: .venv/.has-dev
	$(BIN)/ruff format --check

check-lint: .venv/.has-dev
	$(BIN)/ruff check

check-types: .venv/.has-dev
	$(BIN)/mypy

check-layers: .venv/.has-dev
	$(BIN)/lint-imports --no-logo

bench: .venv/.has-test ## the benchmarks, one after the other
	@for bench in tests/benchmarks/bench_*.py; do \
	    [ -e "$$bench" ] || { echo "no benchmark in tests/benchmarks"; break; }; \
	    echo "== $$bench"; $(BIN)/python "$$bench" || exit; \
	done

readme: .venv/.has-demo ## play every scenario, and write the README's table of what they cover
	@$(BIN)/tcpwatch coverage --quiet --markdown .venv/coverage.md
	@sed -i -e '/coverage:begin/,/coverage:end/{//!d}' -e '/coverage:begin/r .venv/coverage.md' README.md

clean: ## remove .venv and everything that was generated
	rm -rf .venv build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find tcpwatch scenarios tests -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is older than pyproject.toml when a dependency may have changed, and only then is pip run.
.venv/.has-demo: $(MADE) pyproject.toml
	@echo "installing tcpwatch into .venv"
	@$(PIP) install --editable .
	@touch $@

.venv/.has-test: $(MADE) pyproject.toml
	@echo "installing tcpwatch and what its tests need into .venv"
	@$(PIP) install --editable '.[test]'
	@touch $@

.venv/.has-dev: $(MADE) pyproject.toml
	@echo "installing tcpwatch and its checkers into .venv"
	@$(PIP) install --editable '.[dev]'
	@touch $@

$(MADE):
	@[ -n "$(VERSION)" ] || { \
	    echo "$(PYTHON) does not run; install Python 3.11 or newer, or say PYTHON=/path/to/it" >&2; \
	    exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "tcpwatch needs Python 3.11 or newer and $(PYTHON) is $(VERSION);" \
	        "say for example PYTHON=python3.13" >&2; \
	    exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo "$(PYTHON) cannot make a virtual environment: its venv module is not installed;" \
	        "on Debian and Ubuntu: sudo apt-get install python3-venv" >&2; \
	    exit 2; }
	@rm -rf .venv
	@$(PYTHON) -m venv .venv
	@touch $@
