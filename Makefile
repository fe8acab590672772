# Everything a person needs, by one word each. `make` alone prints this list.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/credit-risk
PYTHON := .venv/bin/python
STAMP := .venv/.lock-$(shell sha256sum requirements/dev.txt | cut -c1-12)
LOCAL := PYTHONPATH=cluster/src $(PYTHON) -m localcluster
export PATH := $(CURDIR)/.venv/bin:$(CACHE)/tools/bin:$(PATH)

.PHONY: help
help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ the stack
.PHONY: up kind-up embedded-up train down status env images
up: $(STAMP) ## cluster, stack, first model and first score (DATA=loans.csv to train on your own)
	@$(LOCAL) up --data "$(DATA)"

kind-up: $(STAMP) ## the same on kind, which needs Docker
	@$(LOCAL) --cluster kind up --data "$(DATA)"

embedded-up: $(STAMP) ## the same on the embedded cluster, which needs root on Debian 12
	@$(LOCAL) --cluster embedded up --data "$(DATA)"

train: $(STAMP) ## train once more and follow the log (DATA=file, s3://..., synthetic; ARGS="--epochs 12 ...")
	@$(LOCAL) train --data "$(DATA)" --args="$(ARGS)"

down: $(STAMP) ## remove the cluster and all that is on it
	@$(LOCAL) down

status: $(STAMP) ## say what runs
	@$(LOCAL) status

env: $(STAMP) ## print exports for your shell: eval "$$(make -s env)"
	@$(LOCAL) env

images: $(STAMP) ## build what changed and give it to the running cluster
	@$(LOCAL) images

##@ checks
.PHONY: test test-fast test-e2e test-soak lint format
test: lint test-all ## lint and every test; brings up a cluster for the end-to-end tests

.PHONY: test-all
test-all: $(STAMP) tools
	$(PYTHON) -m pytest -m "not soak" --hypothesis-profile thorough

test-fast: lint ## lint and every test that needs no cluster and takes no minutes
	$(PYTHON) -m pytest -m "not e2e and not terraform" -n 2 --hypothesis-profile quick

test-e2e: $(STAMP) tools ## the end-to-end tests alone
	$(PYTHON) -m pytest -m "e2e and not soak"

test-soak: $(STAMP) tools ## rollouts under faults for half an hour (CREDIT_RISK_SOAK_MINUTES)
	$(PYTHON) -m pytest -m soak

lint: $(STAMP) ## ruff, mypy, import-linter, hadolint, shellcheck, actionlint
	ruff check .
	ruff format --check .
	mypy
	PYTHONPATH=images/api/src:images/training/src:operator/src:cluster/src lint-imports --no-cache
	hadolint $$(git ls-files '*Dockerfile')
	shellcheck $$(git ls-files '*.sh') .ci/run
	actionlint

format: $(STAMP) ## put the code into its one form
	ruff check --fix .
	ruff format .

##@ measurements, each beside its alternatives
.PHONY: bench-routing bench-operator bench-cluster bench-training bench-serving bench-ingress
LOANS ?= ../shared/data/loans.csv
bench-training: $(STAMP) ## accuracy (LOANS=...) and speed beside a plain loop, MLPClassifier and CatBoost
	OMP_WAIT_POLICY=PASSIVE PYTHONPATH=$(CURDIR)/images/training/src $(PYTHON) benchmarks/training/accuracy.py $(LOANS)
	OMP_WAIT_POLICY=PASSIVE PYTHONPATH=$(CURDIR)/images/training/src $(PYTHON) benchmarks/training/speed.py

bench-serving: $(STAMP) ## the API beside a bare echo and other servers (needs wrk; MODEL=folder, VENVS=folder)
	PYTHONPATH=images/training/src $(PYTHON) benchmarks/serving/run.py --model "$(MODEL)" --venvs "$(or $(VENVS),/nowhere)"
	! command -v perf > /dev/null || PYTHONPATH=images/training/src $(PYTHON) benchmarks/serving/shares.py --model "$(MODEL)"

bench-ingress: $(STAMP) tools ## the API beside a bare echo, both behind the running cluster's ingress (needs wrk; MODEL=folder)
	eval "$$($(LOCAL) env)" && PYTHONPATH=images/training/src $(PYTHON) benchmarks/serving/ingress.py --model "$(MODEL)"

bench-routing: $(STAMP) ## what the router in the API costs, at rest and per forwarded request (needs wrk)
	$(PYTHON) benchmarks/routing/cost.py

bench-operator: $(STAMP) ## what the operator costs with ten idle promotions, and how fast it acts
	$(PYTHON) benchmarks/operator/idle.py
	$(PYTHON) benchmarks/operator/reaction.py
	$(PYTHON) benchmarks/operator/chance.py

bench-cluster: $(STAMP) tools ## how fast the operator acts on the running cluster, and the canary's hop there (after make up)
	$(PYTHON) benchmarks/operator/on_cluster.py

##@ the project itself
.PHONY: venv tools charts lock clean
venv: $(STAMP) ## the Python environment of the project

# uv alone comes without a hash from the index; it checks the hashes of all else.
$(STAMP): requirements/dev.txt
	@python3 -m venv --help >/dev/null 2>&1 && python3 -c 'import ensurepip' 2>/dev/null \
	    || { echo "python3-venv is missing: apt-get install python3-venv"; exit 1; }
	@echo "-> install the Python environment into .venv"
	@test -x .venv/bin/uv || { python3 -m venv .venv && .venv/bin/pip install --quiet "$$(grep -o '^uv==[0-9.]*' requirements/dev.txt)"; }
	@.venv/bin/uv pip install --quiet --python $(PYTHON) --require-hashes --compile-bytecode \
	    $(if $(PIP_FIND_LINKS),--find-links $(PIP_FIND_LINKS)) --requirement requirements/dev.txt
	@rm -f .venv/.lock-* && touch $@

tools: $(STAMP) ## helm and kubectl, pinned, into the cache
	@$(LOCAL) tools

charts: tools ## put the charts' dependencies in place
	@charts/build.sh

lock: $(STAMP) ## write the hash-pinned locks from pyproject.toml
	requirements/lock.sh --upgrade

clean: ## remove what the checks leave in the repository
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .venv charts/*/charts charts/*/Chart.lock
