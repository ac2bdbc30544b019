# `make demo` and `make test` need only Python and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= auto
PYTEST = PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal
COVERAGE ?=
DATA ?=
ENCODER ?=

.PHONY: help demo serve test check docs bench format clean

help:
	@echo "make demo             run learning cycles on simulated conversations (about a minute)"
	@echo "make serve            open the service and its dashboard on the home of the demo"
	@echo "make test             run the tests; COVERAGE=1 also measures coverage, which takes longer"
	@echo "make check            lint, types, layers, documentation"
	@echo "make docs             build the documentation site below site/"
	@echo "make bench DATA=DIR   run the benchmarks; DIR holds clinc150/, meld/ and snips/"
	@echo "                      (sources in benchmarks/README.md);"
	@echo "                      ENCODER=FOLDER adds an encoder (docs/encoder.md)"
	@echo "make format           format the code"
	@echo "make clean            remove generated files"

demo: $(VENV)/.installed
	$(BIN)/karen-learner demo
	@echo "  make serve    # the same in this checkout, with the extra that it needs"

serve: $(VENV)/.installed-service
	[ -d demo-home ] || $(BIN)/karen-learner demo
	$(BIN)/karen-learner --home demo-home serve

test: $(VENV)/.installed-test
ifdef COVERAGE # it takes 60 % more time, and tests on PostgreSQL repeat tests on SQLite
	$(PYTEST) -k "not postgresql" --cov --cov-report=term:skip-covered
	$(PYTEST) -k postgresql
else
	$(PYTEST)
endif

check: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/docs tests/cli/test_cli_docs.py -k "not examples_run"
	$(MAKE) docs

docs: $(VENV)/.installed-test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(VENV)/.installed-test
	$(BIN)/python benchmarks/run_all.py $(if $(DATA),--data $(DATA),) $(if $(ENCODER),--encoder $(ENCODER),)

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) demo-home training metrics site .pytest_cache .mypy_cache .ruff_cache .coverage

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.installed-service: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[service]"
	touch $@ $(VENV)/.installed

$(VENV)/.installed-test: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[test,check,bench]"
	touch $@ $(VENV)/.installed
