# Two commands from a fresh clone: `make demo` and `make test`. Both make .venv and install into it first.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PACKAGE_FILES := setup.cfg pyproject.toml

.PHONY: demo test lint format bench-decode bench-extract bench-full-size bench-kills bench-store clean

demo: $(VENV)/.installed
	$(BIN)/actiondiff demo

test: $(VENV)/.installed-test
	$(BIN)/pytest -n 2 --dist worksteal

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	PATH="$(abspath $(BIN)):$$PATH" sh .ci/types

bench-extract: $(VENV)/.installed
	$(BIN)/python benchmarks/bench_extract.py

bench-decode: $(VENV)/.installed
	$(BIN)/python benchmarks/bench_decode.py

bench-full-size: $(VENV)/.installed
	$(BIN)/python benchmarks/bench_full_size.py

bench-kills: $(VENV)/.installed
	$(BIN)/python benchmarks/bench_kills.py

bench-store: $(VENV)/.installed
	$(BIN)/python benchmarks/bench_store.py

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/.installed: $(PACKAGE_FILES)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "actiondiff needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --editable '.[test,lint]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .hypothesis .ruff_cache .mypy_cache .import_linter_cache
