# One word for each thing to do. Each word sets up what it needs in .venv: Python 3.11 or later, pip and make suffice.

PYTHON ?= python3
VENV := .venv
CHAOS := .venv-chaos
AUDIT := .venv-audit
NIQUESTS := .venv-niquests
BIN := $(VENV)/bin
# What has one process of an application in common stays together.
SPREAD := --numprocesses 4 --dist loadgroup

.DEFAULT_GOAL := help
.PHONY: help demo test collector lint format bench bench-quick bench-collector footprint conformance chaos fuzz audit \
	docs clean

help: ## Show these words
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 13

demo: $(VENV)/.demo ## Usage of an example gateway, end to end: no account, no set-up
	@$(BIN)/otel-usage demo

test: $(VENV)/.dev $(NIQUESTS)/.ready $(NIQUESTS)-beside/.ready ## Every test
	@echo "make test: unit, property, end-to-end, Collector and chaos tests, on loopback sockets; twenty minutes and more"
	@$(BIN)/python -m pytest -q --ignore tests/conformance
	@echo "make test: the conformance suite, in four processes; a quarter of an hour and more"
	@$(BIN)/python -m pytest -q $(SPREAD) tests/conformance

collector: ## Build the Collectors that the pipelines are tested on: ten minutes each, once, with Go
	@for manifest in collector-config/builder*.yaml; do collector-config/build.sh $$manifest || exit; done

lint: $(VENV)/.dev ## Style, types and the layers
	@echo "make lint: ruff, mypy, import-linter"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: $(VENV)/.dev ## Put the code into its style
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(VENV)/.dev ## What a request costs with usage on, here and with others: a quarter of an hour
	@echo "make bench: sets up an environment for each peer, measures nine rounds, draws, and writes docs/performance.md"
	@$(BIN)/python -m benchmarks --json build/bench.json --plot docs --into-docs
	@$(BIN)/python -m benchmarks.profile A --into-docs
	@$(BIN)/python -m benchmarks.profile B --into-docs

bench-quick: $(VENV)/.dev ## Fails if a request costs more than is stated: a minute
	@echo "make bench-quick: bare, otel_usage and stock OpenTelemetry, as ratios against those in benchmarks/stated.py"
	@$(BIN)/python -m benchmarks --quick

bench-collector: $(VENV)/.dev ## What a span costs in Collectors and in Kafka: some minutes
	@echo "make bench-collector: builds Collectors if it has to, measures them, and Kafka, and writes docs/collector.md"
	@$(BIN)/python -m benchmarks.collector --into-docs
	@$(BIN)/python -m benchmarks.collector.scale --json benchmarks/collector/sizing.json --into-docs

footprint: $(VENV)/.dev ## What usage takes: wire, memory, imports, latency, stalls, growth
	@echo "make footprint: eight measurements with their bounds, into docs/performance.md; some nine minutes"
	@$(BIN)/python -m benchmarks.footprint --into-docs

conformance: $(VENV)/.dev $(NIQUESTS)/.ready $(NIQUESTS)-beside/.ready ## Every case with every library: what docs/support.md says
	@echo "make conformance: a quarter of an hour and more, into docs/support.md"
	@mkdir -p build && rm -f build/conformance.jsonl
	@CONFORMANCE_RECORD=build/conformance.jsonl $(BIN)/python -m pytest -q $(SPREAD) tests/conformance
	@$(BIN)/python -m tests.conformance.table build/conformance.jsonl docs/support.md

chaos: $(CHAOS)/.ready ## What is lost in each fault, here and with others: an hour
	@echo "make chaos: every fault against otel_usage, BatchSpanProcessor, logfire and apitally; then ten minutes of outage"
	@$(CHAOS)/bin/python -m tests.chaos --fault-seconds 5 --variants otel_usage batch logfire none --into docs/reliability.md#faults
	@$(CHAOS)/bin/python -m tests.chaos --fault-seconds 5 --variants apitally --into docs/reliability.md#faults-of-apitally
	@$(CHAOS)/bin/python -m tests.chaos --faults --outage-seconds 600 --outage-rate 500 --variants otel_usage \
		--into docs/reliability.md#outage

fuzz: $(VENV)/.dev ## Every parser of what strangers write, with inputs made for it: some minutes
	@echo "make fuzz: atheris, a minute for each target, into docs/security.md"
	@$(BIN)/python -m tests.fuzz --seconds 60 --into-docs

audit: $(VENV)/.dev ## Known vulnerabilities of what is installed
	@echo "make audit: pip-audit, against the advisories of the package index"
	@$(PYTHON) -m venv $(AUDIT)
	@$(AUDIT)/bin/python -m pip install --quiet 'pip-audit>=2.9'
	@$(AUDIT)/bin/pip-audit --skip-editable --progress-spinner off --path $$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')

docs: $(VENV)/.dev ## Make the generated pages in docs/ anew
	@echo "make docs: docs/fields.md and collector-config/ from the schema, docs/recipes.md, and what docs/performance.md states"
	@$(BIN)/otel-usage schema --markdown > docs/fields.md
	@$(BIN)/otel-usage collector-config --write collector-config
	@$(BIN)/python -m otel_usage.local.recipes_page > docs/recipes.md
	@$(BIN)/python -m benchmarks.stated

clean: ## Remove the environment and every cache
	rm -rf $(VENV) $(VENV)-bench-* $(CHAOS) $(AUDIT) $(NIQUESTS) $(NIQUESTS)-beside .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache dist build

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; name it with: make PYTHON=python3.12 …")'
	@echo "setting up $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'

$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python
	@echo "installing otel-usage and what the demo needs"
	@$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@touch $@

# Of its own: what otel-usage is compared with brings instrumentations that would change what tests see.
$(CHAOS)/.ready: pyproject.toml
	@echo "setting up $(CHAOS) with what otel-usage is compared with"
	@$(PYTHON) -m venv $(CHAOS)
	@$(CHAOS)/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	@$(CHAOS)/bin/python -m pip install --quiet --editable '.[all]' --group chaos
	@touch $@

# Of their own: niquests brings urllib3-future, which takes urllib3's place, or stands beside it where it is asked to.
$(NIQUESTS)/.ready: pyproject.toml
	@echo "setting up $(NIQUESTS)"
	@$(PYTHON) -m venv $(NIQUESTS)
	@$(NIQUESTS)/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	@$(NIQUESTS)/bin/python -m pip install --quiet --editable '.[baggage]' --group niquests
	@touch $@

$(NIQUESTS)-beside/.ready: pyproject.toml
	@echo "setting up $(NIQUESTS)-beside"
	@$(PYTHON) -m venv $(NIQUESTS)-beside
	@$(NIQUESTS)-beside/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	@URLLIB3_NO_OVERRIDE=1 $(NIQUESTS)-beside/bin/python -m pip install --quiet --no-binary urllib3-future \
		--editable '.[baggage]' --group niquests
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	@echo "installing otel-usage and what tests and checks need"
	@$(BIN)/python -m pip install --quiet --editable '.[all]' \
		--group test --group servers --group frameworks --group clients --group limiters --group models --group queues \
		--group bench --group lint
	@touch $@ $(VENV)/.demo
