# The one entry point. `make` alone prints this help.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

PORT ?= 8080
MANAGEMENT_PORT ?= 8081
TIMELINES_PORT ?= 8082
AGENTS_PORT ?= 8083
BOARD_PORT ?= 8084
KAFKA_PORT ?= 9092
RATE ?= 0.5
DAYS ?= 20
SEED ?= 1
SHARE ?= 1
NUMBER ?= 300
SIM ?= 1
BROKER ?= embedded
WORKERS ?= 4
IN_PARALLEL := -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# A run of the tests starts 300 processes of this project; compiled once, each takes a fifth less.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup run test test-fast check format bench accuracy mutants soak test-browser pictures artefacts cluster assets contract lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-12s %s\n", $$1, $$2 }'
	@echo "  options of run: PORT=8080 MANAGEMENT_PORT=8081 TIMELINES_PORT=8082 AGENTS_PORT=8083 BOARD_PORT=8084 KAFKA_PORT=9092 RATE=0.5 (calls/s) SIM=0 (no simulated calls)"

setup: $(READY) ## the environment in .venv

$(READY): requirements-dev.txt pyproject.toml
	@echo "setting up $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; say PYTHON=python3.12") if sys.version_info < (3, 11) else 0'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m tools.install requirements-dev.txt
	@touch $(READY)

run: $(READY) ## a real Kafka, the bridge, timelines, agents and simulated calls, until Ctrl-C
	@$(BIN)/voipex-sandbox up --port $(PORT) --management-port $(MANAGEMENT_PORT) --kafka-port $(KAFKA_PORT) \
		--timelines-port $(TIMELINES_PORT) --agents-port $(AGENTS_PORT) --board-port $(BOARD_PORT) \
		--rate $(RATE) $(if $(filter 0,$(SIM)),--no-sim,--sim)

test: $(READY) ## every tier but the browser's, on a real broker (BROKER=docker: in a container)
	@BROKER=$(BROKER) $(BIN)/python -m pytest -m "not (slow or artefacts or browser)" --ignore tests/browser $(IN_PARALLEL)

test-fast: $(READY) ## what needs no network and no processes, under 10 s
	@HYPOTHESIS_PROFILE=fast $(BIN)/python -m pytest -q -p no:schemathesis -m "not kafka and not process and not slow and not artefacts" tests/unit

check: $(READY) ## format, lint, spelling, words, types, import contracts, generated documents, locks
	@$(BIN)/ruff format --check --quiet . || { echo "not formatted: make format"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/codespell
	@$(BIN)/python -m tools.dialect
	@$(BIN)/lint-imports
	@$(BIN)/mypy
	@! grep -n '://' requirements.txt requirements-dev.txt requirements-artefacts.txt requirements-browser.txt
	@$(BIN)/python -m tools.docs check
	@$(BIN)/python -m tools.k8s check
	@$(BIN)/python -m tools.test_names
	@$(BIN)/python -m tools.assets check

assets: $(READY) ## renew the third-party files of the board's pages (needs npm)
	@$(BIN)/python -m tools.assets renew

format: $(READY) ## rewrite the code as ruff formats it
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix --quiet . || true

bench: $(READY) $(VENV)/.browser-ready ## every figure of docs/benchmarks.md (needs wrk, and a Chromium, which it finds or brings; about an hour)
	@$(BIN)/python -m benchmarks

accuracy: $(READY) ## how often the documents are right about a simulated company: docs/accuracy.md (DAYS=20 SEED=1; some minutes)
	@$(BIN)/python -m tools.accuracy --write --days $(DAYS) --seed $(SEED)

mutants: $(READY) ## changes of the folds' rules that no unit test notices (NUMBER=300 of each fold, ten minutes; SEED=1, FOLD=consumers/calls; ALL=1: every one)
	@$(BIN)/python -m tools.mutants --seed $(SEED) $(if $(filter 1,$(ALL)),--all,--number $(NUMBER)) $(FOLD)

soak: $(READY) ## the long forms of the fault tests, and the figures of docs/guarantees.md (SHARE=0.1: a tenth of the rounds)
	@HYPOTHESIS_PROFILE=soak $(BIN)/python -m pytest tests/unit
	@SOAK_SHARE=$(SHARE) $(BIN)/python -m pytest -m "slow" --ignore tests/browser -n 2 --dist loadfile --no-loadscope-reorder
	@$(BIN)/python -m pytest -m "not slow" $$($(BIN)/python -m tools.guarantees tests | grep -v ^tests/unit/)
	@$(BIN)/python -m tools.guarantees write

BROWSER_READY := $(VENV)/.browser-ready
test-browser: $(READY) $(BROWSER_READY) ## the board in a Chromium, which it finds or brings
	@$(BIN)/python -m pytest -m browser -n $(WORKERS) tests/browser

pictures: $(READY) $(BROWSER_READY) ## the pictures of docs/pictures, in a Chromium
	@$(BIN)/python -m tests.browser.pictures

$(BROWSER_READY): $(READY) requirements-browser.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-browser.txt
	@touch $@

ARTEFACTS := build/artefacts
artefacts: $(READY) $(ARTEFACTS)/.ready ## image, compose, deployment files, dashboards, alerts: each judged by its own tool (needs docker, promtool, node, kcat, and KUBECONFIG of any API server)
	@$(BIN)/python -m pytest -m "artefacts" -n $(WORKERS) --dist loadfile --no-loadscope-reorder tests/artefacts

$(ARTEFACTS)/.ready: requirements-artefacts.txt
	@$(PYTHON) -m venv $(ARTEFACTS)/venv
	@$(ARTEFACTS)/venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-artefacts.txt
	@npm install --silent --no-save --no-package-lock --prefix $(ARTEFACTS)/npm @asyncapi/parser@3.6.3
	@touch $@

cluster: $(READY) ## roll-outs, drains, kills and outages on the cluster that KUBECONFIG names, with the image IMAGE that it has: a quarter of an hour
	@$(BIN)/python -m tests.cluster

contract: $(READY) ## write the generated documents: docs/settings.md, docs/settings-consumers.md, docs/contract/, parts of deploy/k8s/
	@$(BIN)/python -m tools.docs write
	@$(BIN)/python -m tools.k8s write

lock: ## pin all dependencies again (needs uv)
	uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-annotate --no-header pyproject.toml -o requirements.txt
	uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-annotate --no-header -c requirements.txt \
		--extra dev pyproject.toml -o requirements-dev.txt
	uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-annotate --no-header -c requirements-dev.txt \
		requirements-browser.in -o requirements-browser.txt
	uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --no-annotate --no-header \
		requirements-artefacts.in -o requirements-artefacts.txt

clean: ## remove build/ (the local Kafka's data, spool, credentials) and .venv
	rm -rf build $(VENV)
