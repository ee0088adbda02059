# `make demo` and `make test` do everything from a fresh clone; `make` alone lists the targets.
.DEFAULT_GOAL := help
.PHONY: help setup dev chromium nginx demo test check format bench soak coverage constraints clean

PYTHON := .venv/bin/python
ARGS ?=

help: ## list the targets
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup: ## make .venv with all that using millrace needs
	@scripts/setup.sh run

demo: setup ## open the web chat on the bundled model
	@.venv/bin/millrace chat $(ARGS)

test: dev chromium nginx ## run all tests; ARGS="tests/flow -k loop" chooses
	@$(PYTHON) -m pytest $(ARGS)

check: dev ## lint, format, types, import order, links of the docs
	@$(PYTHON) -m ruff check --quiet --output-format concise .
	@$(PYTHON) -m ruff format --check --quiet --output-format concise . || { echo "unformatted files; make format mends them"; exit 1; }
	@$(PYTHON) -m mypy
	@.venv/bin/lint-imports --no-logo
	@$(PYTHON) -m pytest tests/project/test_docs.py -k links

format: dev ## write every file in the house's format
	@$(PYTHON) -m ruff check --quiet --fix .
	@$(PYTHON) -m ruff format --quiet .

bench: dev ## measure the figures; ARGS="imports spine" chooses the parts
	@$(PYTHON) -m benchmarks $(ARGS)

soak: dev ## start and stop runs at random for SECONDS (default 60) and look for leaks
	@SOAK_SECONDS=$(or $(SECONDS),60) $(PYTHON) -m pytest -s -m soak $(ARGS)

coverage: dev chromium nginx ## run all tests and list the lines that none of them reached
	@$(PYTHON) -m coverage run -m pytest $(ARGS)
	@$(PYTHON) -m coverage report --show-missing --skip-covered

constraints: dev ## write constraints.txt from what .venv holds now
	@$(PYTHON) scripts/constraints.py

clean: ## remove caches and build outputs, not .venv
	@rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage *.egg-info src/*.egg-info
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

dev:
	@scripts/setup.sh dev

chromium:
	@scripts/chromium.sh

nginx:
	@scripts/nginx.sh
