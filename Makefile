# One command each for running, testing and maintaining the bazaar. `make` alone lists them.
#
#   PYTHON   the interpreter that makes the environment (3.11 or newer)
#   ARGS     handed on: make run ARGS="--front-ends 2", make test ARGS="-k cache -x"
#   JOBS     how many files of tests run at once; many tests wait more than they work

PYTHON ?= python3
ARGS   ?=
JOBS   ?= 3

SHELL       := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run bench pdf install install-dev test test-output format lint types check lock clean

BIN := .venv/bin
# The environment's own pip; or, where it could be made only without one, that of the interpreter it was made with.
PIP = $$([ -x $(BIN)/pip ] && echo $(BIN)/python -m pip || echo $(PYTHON) -m pip --python $(BIN)/python) \
  --disable-pip-version-check --no-input --quiet
# Every dependency comes as a wheel, with the hash that is in the lock: no compiler, no surprise.
LOCKED := --require-hashes --only-binary :all: --no-deps
SUITES := unit service system simulation browser

help: ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while IFS=$$'\t' read -r name does; do printf '  make %-12s %s\n' "$$name" "$$does"; done

# `exec` leaves no shell between make and the bazaar: a signal to make or to the terminal's whole group reaches it once.
run: .venv/runtime.stamp ## start the whole bazaar, until Ctrl-C (installs it first when needed)
	@exec $(BIN)/bazaar up $(ARGS)

bench: .venv/runtime.stamp ## measure the bazaar beside bare uvicorn and FastAPI; ARGS="--quick" takes a minute
	@exec $(BIN)/bazaar bench $(ARGS)

# Beside what install-dev brings it needs Pango, which most systems with a desktop or a browser have; it says so.
pdf: .venv/dev.stamp ## make docs/pdf/*.pdf of the documents that are handed in; tells the number of pages
	@$(BIN)/python -m eval.pdf

install: .venv/runtime.stamp ## install the bazaar into .venv

install-dev: .venv/dev.stamp ## the same, with everything that tests and checks need

# pip would compile all of numpy and matplotlib too, one file after another; what services import at their start is
# compiled here on all cores.
.venv/runtime.stamp: pyproject.toml requirements.lock | .venv/python.stamp
	@echo 'Installing the bazaar into .venv (about half a minute, once) ...'
	@$(PIP) install $(LOCKED) --no-compile -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --no-compile --editable .
	@$(BIN)/python -m compileall -q -j 0 -x '/(pip|setuptools|pkg_resources|hatchling|lexers|styles|trove_classifiers|matplotlib|numpy|PIL|fontTools|mpl_toolkits|tests)/' .venv/lib || true
	@touch $@

.venv/dev.stamp: requirements-dev.lock .venv/runtime.stamp
	@echo 'Installing what the tests and checks need ...'
	@$(PIP) install $(LOCKED) -r requirements-dev.lock
	@touch $@

# Debian's python3 has no ensurepip until python3-venv is installed, but often a pip of its own, which serves as well.
.venv/python.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "make: the bazaar needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>/dev/null || echo not there)" >&2; \
	  echo "make: name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@if $(PYTHON) -c 'import ensurepip' 2>/dev/null; then $(PYTHON) -m venv --clear .venv; \
	elif $(PYTHON) -m pip --version >/dev/null 2>&1; then $(PYTHON) -m venv --clear --without-pip .venv; \
	else echo 'make: $(PYTHON) has neither ensurepip nor pip; on Debian and Ubuntu: apt-get install python3-venv' >&2; exit 1; fi
	@touch $@

test: .venv/dev.stamp ## run the tests; their output goes to .tmp/test.txt as well
	@mkdir -p .tmp
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS) 2>&1 | tee .tmp/test.txt

test-output: .venv/dev.stamp ## run every suite and write tests/output/*.txt
	@mkdir -p tests/output
	@for suite in $(SUITES); do \
	  [ ! -d "tests/$$suite" ] || COLUMNS=120 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile -v --color=no "tests/$$suite" 2>&1 \
	    | sed -e 's|$(CURDIR)/||g' -e 's|$(CURDIR)|.|g' | tee "tests/output/$$suite.txt"; \
	done

format: .venv/dev.stamp ## lay out the code anew
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix-only --quiet

lint: .venv/dev.stamp ## check the layout and the lint rules
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check

types: .venv/dev.stamp ## check the types
	@$(BIN)/mypy

check: lint types test ## what has to pass before a commit: layout, lint, types, tests

# Which versions are installed is decided here and nowhere else.
lock: .venv/dev.stamp ## choose the newest allowed versions and write both lock files
	@for name in requirements requirements-dev; do \
	  extra=; [ $$name = requirements ] || extra='--extra dev --extra ec2 --extra tracing --constraint requirements.lock'; \
	  $(BIN)/pip-compile --quiet --upgrade --generate-hashes --allow-unsafe --strip-extras --build-deps-for editable \
	    --no-header --no-emit-options --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
	    $$extra --output-file $$name.lock pyproject.toml; \
	  { echo '# Made by `make lock` from pyproject.toml: do not edit.'; grep -v '^# Made by' $$name.lock; } > $$name.tmp; \
	  mv $$name.tmp $$name.lock; \
	done

clean: ## remove everything that was made here, except the data folder
	rm -rf .venv .tmp build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
