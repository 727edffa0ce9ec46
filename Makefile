# The one place for the project's commands. Everything is set up inside the checkout: `.venv`, and nothing else.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: demo run eval test check soak

demo: .venv/server  ## Refine a prompt, end to end, and show what was stored
	@$(BIN)/python -m scripts.demo

run: .venv/server  ## Serve on 127.0.0.1:8000 (HOST, PORT) and print requests to paste
	@$(BIN)/python -m scripts.run

eval: .venv/server  ## Refine our own drafts, or those of PROMPTS, and show the figures (STRATEGY, OUT, LIMIT)
	@$(BIN)/python -m scripts.evaluate $(if $(STRATEGY),--strategy "$(STRATEGY)") $(if $(LIMIT),--limit "$(LIMIT)") \
		$(if $(PROMPTS),--prompts "$(PROMPTS)") $(if $(OUT),--out "$(OUT)")

test: .venv/dev  ## Every test, with coverage
	$(BIN)/python -m pytest --cov --cov-report=term

check: .venv/dev  ## Formatter, linter, types, import rule
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --quiet tests/test_imports.py

soak: .venv/dev  ## 10,000 requests under faults and kills (REQUESTS, CONCURRENCY, SEED, DATABASE: mongodb, postgresql, sqlite)
	@$(BIN)/python -m tests.soak $(if $(REQUESTS),--requests "$(REQUESTS)") $(if $(SEED),--seed "$(SEED)") \
		$(if $(CONCURRENCY),--concurrency "$(CONCURRENCY)") $(if $(DATABASE),--database "$(DATABASE)")

.venv/python:
	$(PYTHON) -m venv .venv
	@touch $@

.venv/server: .venv/python requirements.txt requirements-server.txt
	$(PIP) -r requirements-server.txt
	@touch $@

.venv/dev: .venv/server requirements-dev.txt
	$(PIP) -r requirements-dev.txt
	@touch $@
