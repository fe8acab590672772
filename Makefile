# The commands of this project. `make` alone lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/credit-risk
PYTHON := .venv/bin/python
STAMP := .venv/.lock-$(shell cat requirements/dev.txt requirements/sources.pth | sha256sum | cut -c1-12)
LOCAL := PYTHONPATH=cluster/src $(PYTHON) -m localcluster
export PATH := $(CURDIR)/.venv/bin:$(CACHE)/tools/bin:$(PATH)

.PHONY: help
help: ## list all targets
	@awk -F ':.*## ' '/^##@ /{print "\n" toupper(substr($$0, 5, 1)) substr($$0, 6)} \
	    /^[a-z0-9-]+:.*## /{gsub(/\$$\$$/, "$$"); printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ stack
.PHONY: up kind-up embedded-up train backup backups restore down status env images
up: $(STAMP) ## cluster, stack, first model and first score (DATA=loans.csv FEATURES=features.json: train on your own data; DECISIONS=log: keep decisions; MONITORING=1: run a Prometheus)
	@$(LOCAL) up --data "$(DATA)" --features "$(FEATURES)" --decisions "$(DECISIONS)" --monitoring "$(MONITORING)"

kind-up: $(STAMP) ## the same on kind (needs Docker)
	@$(LOCAL) --cluster kind up --data "$(DATA)" --features "$(FEATURES)" --decisions "$(DECISIONS)" --monitoring "$(MONITORING)"

embedded-up: $(STAMP) ## the same on the embedded cluster (needs root on Debian 12)
	@$(LOCAL) --cluster embedded up --data "$(DATA)" --features "$(FEATURES)" --decisions "$(DECISIONS)" --monitoring "$(MONITORING)"

train: $(STAMP) ## train another model and follow its log (DATA=loans.csv FEATURES=features.json ARGS="--epochs 12"; DATA=decisions: from the decision log)
	@$(LOCAL) train --data "$(DATA)" --features "$(FEATURES)" --args="$(ARGS)"

backup: $(STAMP) ## back up MLflow's database and artifacts now, and follow the log
	@$(LOCAL) backup

backups: $(STAMP) ## list the backups
	@$(LOCAL) backups

restore: $(STAMP) ## replace MLflow's database and artifacts by a backup (FROM=latest or an id; ARGS=--json)
	@$(LOCAL) restore --from "$(FROM)" $(ARGS)

down: $(STAMP) ## remove the cluster and everything on it
	@$(LOCAL) down

status: $(STAMP) ## show what is running
	@$(LOCAL) status

env: $(STAMP) ## print environment variables for your shell: eval "$$(make -s env)"
	@$(LOCAL) env

images: $(STAMP) ## build changed images and load them into the running cluster (DECISIONS=log, MONITORING=1: those of decision log and Prometheus too)
	@$(LOCAL) images --decisions "$(DECISIONS)" --monitoring "$(MONITORING)"

##@ checks
.PHONY: test test-fast test-e2e test-soak scan lint format
test: lint test-all ## lint and all tests, the end-to-end ones on a cluster (LOANS=loans.csv: use real loans)

# Nothing runs beside the end-to-end tests, whose pods have small shares of the processor. Applying Terraform takes one
# core for minutes, and shares what it applied in one process.
#
# A machine that stands still for seconds fails what it likes among thousands of tests: a failed one runs once more,
# and the report prints what it failed with at first. Many of them wait for processes: three run on two cores.
FAST := not e2e and not terraform and not soak
.PHONY: test-all
test-all: $(STAMP) tools
	$(MAKE) --no-print-directory --jobs=2 test-local test-terraform
	$(MAKE) --no-print-directory test-e2e

.PHONY: test-local test-terraform
test-local: $(STAMP)
	$(PYTHON) -m pytest -m "$(FAST)" -n 3 --reruns 1 --hypothesis-profile quick

test-terraform: $(STAMP)
	$(PYTHON) -m pytest -m "terraform and not soak" --quiet

test-fast: lint test-local ## lint and the tests that need neither a cluster nor Terraform

test-e2e: $(STAMP) tools ## only the end-to-end tests
	$(PYTHON) -m pytest -m "e2e and not soak" --reruns 1 --maxfail 8 --durations 20

test-soak: $(STAMP) tools ## rollouts under faults, 100,000 hostile requests, overload and steady load (CONTRIBUTING.md)
	$(PYTHON) -m pytest -m soak
	$(PYTHON) -m pytest -m "$(FAST)" -n 3 --reruns 1 --hypothesis-profile thorough

scan: $(STAMP) tools ## secrets in the history and in rendered manifests
	$(PYTHON) -m pytest tests/security

lint: $(STAMP) ## ruff, mypy, import-linter, hadolint, shellcheck, actionlint
	ruff check .
	ruff format --check .
	mypy
	PYTHONPATH=images/api/src:images/training/src:images/mlflow/src:images/decisions/src:images/scoring/src:operator/src:cluster/src lint-imports --no-cache
	hadolint $$(git ls-files '*Dockerfile')
	shellcheck $$(git ls-files '*.sh') .ci/run
	actionlint

format: $(STAMP) ## format the code
	ruff check --fix .
	ruff format .

##@ benchmarks
.PHONY: bench-routing bench-registry bench-operator bench-cluster bench-training bench-serving bench-ingress bench-overload bench-bulk
MODEL ?= $(CACHE)/benchmark-model
$(CACHE)/benchmark-model: $(shell git ls-files images/training/src) | $(STAMP)
	PYTHONPATH=images/training/src $(PYTHON) benchmarks/training/model.py "$@"

bench-training: $(STAMP) ## accuracy and speed against other trainers (LOANS=loans.csv; default: generated loans)
	OMP_WAIT_POLICY=PASSIVE PYTHONPATH=$(CURDIR)/images/training/src $(PYTHON) benchmarks/training/accuracy.py $(LOANS)
	OMP_WAIT_POLICY=PASSIVE PYTHONPATH=$(CURDIR)/images/training/src $(PYTHON) benchmarks/training/speed.py

bench-serving: $(STAMP) $(MODEL) ## the API against other servers (needs wrk; MODEL=folder, default: a generated one; VENVS=folder)
	PYTHONPATH=images/training/src $(PYTHON) benchmarks/serving/run.py --model "$(MODEL)" $(if $(VENVS),--venvs "$(VENVS)")
	! command -v perf > /dev/null || PYTHONPATH=images/training/src $(PYTHON) benchmarks/serving/shares.py --model "$(MODEL)"

bench-bulk: $(STAMP) $(MODEL) ## bulk scoring, Parquet to Parquet, against other ways, and its memory (MODEL as above)
	$(PYTHON) benchmarks/bulk/speed.py --model "$(MODEL)" --rows 5000000
	$(PYTHON) benchmarks/bulk/speed.py --model "$(MODEL)" --rows 5000000 --memory
	$(PYTHON) benchmarks/bulk/speed.py --model "$(MODEL)" --rows 5000000 --sharing

bench-overload: $(STAMP) $(MODEL) ## the API at three times its capacity, with large batches, and over time (needs wrk; MODEL as above)
	PYTHONPATH=images/training/src $(PYTHON) benchmarks/serving/overload.py --model "$(MODEL)"
	PYTHONPATH=images/training/src $(PYTHON) benchmarks/serving/steady.py --model "$(MODEL)" --minutes 2 --warm-up-minutes 1

bench-ingress: $(STAMP) tools $(MODEL) ## the API behind the running cluster's ingress (needs wrk; MODEL as above)
	eval "$$($(LOCAL) env)" && PYTHONPATH=images/training/src $(PYTHON) benchmarks/serving/ingress.py --model "$(MODEL)"

bench-routing: $(STAMP) ## cost of canary routing, idle and per forwarded request (needs wrk)
	$(PYTHON) benchmarks/routing/cost.py

bench-registry: $(STAMP) ## MLflow with fifty clients at once, by how it reaches its database
	$(PYTHON) benchmarks/tracking/parallel_clients.py

bench-operator: $(STAMP) ## cost of the operator with idle ModelPromotions and with its page, and its reaction time
	$(PYTHON) benchmarks/operator/idle.py
	$(PYTHON) benchmarks/operator/page.py
	$(PYTHON) benchmarks/operator/reaction.py
	$(PYTHON) benchmarks/operator/chance.py

bench-cluster: $(STAMP) tools ## reaction time of the operator, cost of the hop to the canary, and start of a pod, on the running cluster
	$(PYTHON) benchmarks/operator/on_cluster.py
	$(PYTHON) benchmarks/operator/pod_start.py

##@ project
.PHONY: venv tools charts lock clean
venv: $(STAMP) ## create the Python environment in .venv

# Only uv itself is installed without a hash; it verifies the hashes of everything else.
$(STAMP): requirements/dev.txt requirements/sources.pth
	@python3 -m venv --help >/dev/null 2>&1 && python3 -c 'import ensurepip' 2>/dev/null \
	    || { echo "python3-venv is not installed; run: apt-get install python3-venv"; exit 1; }
	@echo "-> Install the Python environment into .venv"
	@test -x .venv/bin/uv || { python3 -m venv .venv && .venv/bin/pip install --quiet "$$(grep -o '^uv==[0-9.]*' requirements/dev.txt)"; }
	@.venv/bin/uv pip install --quiet --python $(PYTHON) --require-hashes --compile-bytecode \
	    $(if $(PIP_FIND_LINKS),--find-links $(PIP_FIND_LINKS)) --requirement requirements/dev.txt
	@cp requirements/sources.pth "$$($(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/credit-risk.pth"
	@rm -f .venv/.lock-* && touch $@

tools: $(STAMP) ## install the pinned helm and kubectl into the cache
	@$(LOCAL) tools

charts: tools ## vendor the charts' dependencies
	@charts/build.sh

lock: $(STAMP) ## update the hash-pinned locks from pyproject.toml
	requirements/lock.sh --upgrade

clean: ## remove what builds and checks left in the repository
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .venv charts/*/charts charts/*/Chart.lock
