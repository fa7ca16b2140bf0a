# Every target makes what it needs. `make help` lists them.

# Looked for only where an environment is made.
PYTHON ?= $(shell scripts/python)
VENV := .venv
RUN := $(VENV)/bin/python
RUNTIME := $(VENV)/.runtime-installed
DEV := $(VENV)/.dev-installed
# The tests wait more than they compute: for servers, time limits and one another.
WORKERS ?= 2
# tests/distribution.py says which tests a worker takes together, and which begin.
DISTRIBUTED := -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# What the project writes while it is tested and measured stays in the checkout.
CACHE_HOME := $(CURDIR)/.cache/home
# The tests start hundreds of programs, of which each would compile all its modules.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help serve test test-full test-ui pictures check bench bench-engine bench-dialog bench-gateway bench-endurance bench-guard bench-ui bench-full soak format docs clean

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

serve: $(RUNTIME) ## Set everything up and serve on 127.0.0.1:8000
	@exec $(VENV)/bin/hodios serve

test: $(DEV) ## Run the tests, with fixed samples of the long checks
	@$(RUN) -m pytest -q $(DISTRIBUTED)

test-full: $(DEV) ## Run the tests with the long checks whole
	@$(RUN) -m pytest -q $(DISTRIBUTED) --full

test-ui: $(DEV) ## Drive the web page with a real browser
	@$(RUN) -m pytest -q tests/browser

pictures: $(DEV) ## Take the pictures of the web page anew, for docs/images
	@$(RUN) -m pytest -q tests/browser/test_pictures.py --full --pictures docs/images

check: $(DEV) ## Formatting, lint, types, layers, dependencies
	@$(VENV)/bin/ruff format --check --quiet . || { echo "Run: make format"; exit 1; }
	@$(VENV)/bin/ruff check --quiet .
	@$(VENV)/bin/mypy --no-error-summary
	@$(VENV)/bin/lint-imports > $(VENV)/lint-imports.log || { cat $(VENV)/lint-imports.log; exit 1; }
	@$(RUN) scripts/audit.py
	@echo "check: format, lint, types, layers and dependencies are in order"

audit: $(DEV) ## The dependencies alone, and no success without having looked for known vulnerabilities
	@$(RUN) scripts/audit.py --must-look

soak: $(DEV) ## Load for minutes: many requests at once, and money while everything is killed
	@$(RUN) -m pytest -q --full -m soak -rP

bench: bench-engine bench-dialog bench-gateway ## The measurements that end in RESULT lines

bench-engine: $(DEV) ## The engine beside llama.cpp on the same file
	@HODIOS_HOME=$(CACHE_HOME) $(RUN) -m benchmarks.engine

bench-dialog: $(DEV) ## How fast tool calls are read out of answers
	@$(RUN) -m benchmarks.dialog

bench-gateway: $(DEV) ## The gateway beside vllm-router, smg, Portkey and LiteLLM
	@$(RUN) -m benchmarks.gateway

bench-endurance: $(DEV) ## What grows while the gateway answers a million requests
	@$(RUN) -m benchmarks.endurance

bench-guard: $(DEV) ## The embedded guard: right and wrong judgements, spelling tricks, speed
	@$(RUN) -m benchmarks.guard
	@$(RUN) -m benchmarks.guard_load

bench-ui: $(DEV) ## The web page: time until it can be used, frames per second
	@$(RUN) -m benchmarks.page --chromium "$$(scripts/need chromium chromium)"

bench-full: $(DEV) ## The same with vLLM and llama.cpp's fastest type
	@HODIOS_HOME=$(CACHE_HOME) $(RUN) -m benchmarks.engine --full

format: $(DEV) ## Format the code and mend what ruff can
	@$(VENV)/bin/ruff check --fix --quiet . || true
	@$(VENV)/bin/ruff format --quiet .

docs: $(DEV) ## Write docs/cli.md and docs/configuration.md anew
	@$(RUN) scripts/write_docs.py

clean: ## Remove what was built; models under HODIOS_HOME stay
	rm -rf $(VENV) .cache build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

$(RUNTIME): pyproject.toml scripts/install
	@scripts/install "$(PYTHON)" $(VENV) .
	@touch $@

$(DEV): $(RUNTIME) pyproject.toml scripts/install
	@scripts/install "$(PYTHON)" $(VENV) '.[dev]'
	@touch $@
