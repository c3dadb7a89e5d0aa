# Two commands need nothing but Python 3.11 to 3.14 and make: `make demo` and `make test`.
# Both make .venv when it is missing, half-made, or not what the lock files and pyproject.toml say.

PYTHON ?=
VENV ?= .venv
ARGS ?=
python = "$(VENV)/bin/python"
parallel = -n auto --maxprocesses 4 --dist worksteal

# Code that the caller's shell puts on the path would come before the environment's own.
unexport PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast check format lock clean run-environment dev-environment

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' Makefile | while IFS='|' read -r name text; do printf '  make %-10s %s\n' "$$name" "$$text"; done
	@echo '  PYTHON=/path/to/python3.12 chooses the Python, ARGS="-k resnet" goes to pytest or to engram train'

demo: run-environment ## train on handwritten digits and print where the report lies
	@$(python) -m engram train $(ARGS)

test: check ## lint, type check and all tests, on at most four cores
	@$(python) -m pytest $(parallel) $(ARGS)

test-fast: dev-environment ## the tests without the slow ones
	@$(python) -m pytest $(parallel) -m "not slow" $(ARGS)

check: dev-environment ## lint, format and type check
	@$(python) -m ruff check
	@$(python) -m ruff format --check
	@$(python) -m pyrefly check

format: dev-environment ## rewrite the code in the project's format
	@$(python) -m ruff check --fix
	@$(python) -m ruff format

lock: dev-environment ## resolve the newest versions that pyproject.toml allows into locks/
	@$(python) tools/lock.py

clean: ## remove the environment and what the tools cached (runs/ stays)
	@rm -rf "$(VENV)" .pytest_cache .ruff_cache .hypothesis build dist
	@find src tests bench tools -name __pycache__ -type d -prune -exec rm -rf {} +

# The locked torch has builds for these versions of Python and no others.
run-environment dev-environment:
	@if [ -n "$(PYTHON)" ]; then set -- "$(PYTHON)"; \
	else set -- python3 python python3.14 python3.13 python3.12 python3.11; fi; \
	for candidate in "$$@"; do \
	  if "$$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; then \
	    exec "$$candidate" tools/environment.py "$(VENV)" $(@:-environment=); \
	  fi; \
	done; \
	here=$$(command -v "$$1" >/dev/null 2>&1 && "$$1" --version 2>&1 | head -n 1 || echo "no $$1"); \
	echo "engram needs Python 3.11, 3.12, 3.13 or 3.14; here is $$here" >&2; \
	echo "  next: install one, or name it: make $(or $(MAKECMDGOALS),demo) PYTHON=/path/to/python3.12" >&2; \
	exit 2
