# Everything a person does with this project. A fresh machine needs Python 3.11 or 3.12 (with venv) and make.

VENV ?= .venv
WORKERS ?= 4
ARGS ?=
UV ?= uv

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ROOMS := $(wildcard benchmarks cli dataflows examples journal pipeline quality sinks sources tests)

.DEFAULT_GOAL := help
.PHONY: help setup demo test soak check format bench docs kafka lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## a virtual environment in .venv with exactly what requirements.lock names

# Candidates are tried by running them: a pyenv shim can be on the PATH and lead nowhere, and Debian ships Python without venv.
$(STAMP): requirements.lock pyproject.toml
	@set -e; \
	suits() { "$$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' >/dev/null 2>&1; }; \
	if ! suits $(BIN)/python; then \
	  found=; \
	  for candidate in $(PYTHON) python3.12 python3.11 python3 python /usr/bin/python3 "$$HOME"/.pyenv/versions/3.1[12].*/bin/python; do \
	    if suits "$$candidate"; then found="$$candidate"; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then echo "No Python 3.11 or 3.12 with venv here. Install one (Debian: apt-get install python3 python3-venv) or run: make setup PYTHON=/path/to/python" >&2; exit 1; fi; \
	  echo "Making $(VENV) with $$found"; \
	  "$$found" -m venv --clear $(VENV); \
	fi
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python -m compileall -q cli dataflows examples journal pipeline quality sinks sources
	@touch $(STAMP)

demo: $(STAMP) ## the whole story on this machine, in about a minute
	$(BIN)/sluice demo $(ARGS)

test: $(STAMP) ## all tests; ARGS="-k toast" for some
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

soak: $(STAMP) ## the tests that run for long under load
	$(BIN)/python -m pytest -m soak --timeout 0 $(ARGS)

check: $(STAMP) ## lint, format, types, direction of imports, drift of the generated docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict $(ROOMS) docs/generate.py
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check

format: $(STAMP) ## formats, and mends what lint can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## speed and memory, side by side with pg_recvlogical
	$(BIN)/python -m benchmarks $(ARGS)

docs: $(STAMP) ## the generated reference pages
	$(BIN)/python docs/generate.py

kafka: $(STAMP) ## a Kafka broker and a schema registry for the tests, fetched ahead of time (needs Java 17 and Maven)
	$(BIN)/python -m examples.fetch_kafka

# Present versions stay; UPGRADE="--upgrade" or UPGRADE="--upgrade-package duckdb" moves them.
lock: ## requirements.lock and its part that production needs, from pyproject.toml (needs uv)
	$(UV) pip compile pyproject.toml --extra demo --extra dev --universal --generate-hashes --no-emit-index-url --quiet $(UPGRADE) -o requirements.lock
	$(UV) pip compile pyproject.toml --universal --generate-hashes --no-emit-index-url --quiet -c requirements.lock -o requirements-runtime.lock

clean: ## removes the virtual environment, caches and builds
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
