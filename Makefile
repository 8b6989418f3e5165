# Each target does all its own set-up. Nothing is installed outside .venv, and `make demo` installs
# nothing at all. Another Python: make test PYTHON=python3.13

SUITABLE := import sys; sys.exit(sys.version_info < (3, 11))
# The first one that is suitable. Looked for once: with ?= it would be each time it is named.
ifeq ($(origin PYTHON), undefined)
PYTHON := $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c '$(SUITABLE)' 2>/dev/null && echo $$python && break; done)
endif
VENV ?= .venv

.PHONY: help demo test compare timeline lint types clean

help:
	@echo "make demo     one conversation with all four servers, side by side (needs Python 3.11+ alone)"
	@echo "make test     the test suite, on all four, in about five minutes"
	@echo "make compare  what each model costs: tables, pictures and a page, in under four minutes"
	@echo "make timeline what each server does, and when, in one conversation: pictures and pages"
	@echo "make lint     ruff"
	@echo "make types    mypy: what the harness, the benchmarks, the grader and the servers promise"
	@echo "make clean    remove what these have made"

demo: python
	@$(PYTHON) -m benchmarks demo

test: $(VENV)/pytest.installed
	$(VENV)/bin/python -m tests.side_by_side $(PYTEST_OPTIONS)

compare: $(VENV)/matplotlib.installed
	$(VENV)/bin/python -m benchmarks --quick --out results

timeline: python
	@$(PYTHON) -m benchmarks timeline --out results

lint: $(VENV)/ruff.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/mypy.installed
	$(VENV)/bin/mypy

clean:
	rm -rf $(VENV) results .pytest_cache .ruff_cache .mypy_cache

.PHONY: python
python:
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or newer found; install one, or: make PYTHON=/path/to/it" >&2; exit 1; }
	@$(PYTHON) -c '$(SUITABLE)' || { echo "make: $(PYTHON) is not Python 3.11 or newer; another one: make PYTHON=/path/to/it" >&2; exit 1; }

$(VENV)/bin/python: | python
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "make: no virtual environment could be made; on Debian: apt install python3-venv" >&2; exit 1; }

$(VENV)/%.installed: $(VENV)/bin/python
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check $* || { echo "make: $* could not be installed in $(VENV): is the package index within reach?" >&2; exit 1; }
	@touch $@
