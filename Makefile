# `make help` lists every target.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# kfp pins old versions of what the rest wants new, and torch is large: environments of their own.
PIPELINES := .venv-pipelines
SERVING := .venv-serving
PIP := pip install --quiet --disable-pip-version-check
# What mypy knows already (by content, not by place): of a fresh clone it then looks only at what changed.
TYPES := $(or $(PENSTOCK_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/penstock)/mypy

.DEFAULT_GOAL := help
.PHONY: help venv venv-pipelines venv-serving prerequisites demo demo-pipeline test test-unit test-api test-manifests test-aws test-components \
  test-pipelines test-serving test-local test-e2e lint lint-components lint-serving format generate kubernetes images bench bench-burst bench-ring bench-serving bench-pipeline clean

help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

REQUIREMENTS := pyproject.toml constraints.txt local/environment.py

$(VENV)/.ready: $(REQUIREMENTS)
	$(PYTHON) local/environment.py $(VENV) dev

$(PIPELINES)/.ready: $(REQUIREMENTS)
	$(PYTHON) local/environment.py $(PIPELINES) components,local,fake-aws,test

$(SERVING)/.ready: $(REQUIREMENTS) trainer/requirements-torch.txt trainer/keep-loaded-libraries
	$(PYTHON) local/environment.py $(SERVING) serving,fake-aws,test --torch

venv-pipelines: $(PIPELINES)/.ready ## Python environment with Kubeflow Pipelines

venv-serving: $(SERVING)/.ready ## Python environment with torch, for the model server

venv: $(VENV)/.ready ## Python environment with everything for development

prerequisites: ## Debian packages for the local cluster and the images (needs root)
	./local/prerequisites.sh

demo: venv prerequisites ## Kubernetes on this machine, the operator, and a model trained in it (CLUSTER=current: your own cluster)
	$(BIN)/python -m penstock_local.demo

demo-pipeline: venv-pipelines prerequisites ## From unlabelled images to a served model, with a fake AWS (RUN=name: again)
	$(PIPELINES)/bin/python -m penstock_pipelines.demo

# What has to be built comes first, by itself: beside a compiler a test's deadline means nothing. Of the tests the longest first, so
# that none is left to run alone; four at a time, as nodes and pods are waited for more than they compute. `-o`: the Debian packages
# are there, and what waits for that script again would start last. GOGC: a dozen API servers collect garbage less often.
test: ## All checks and tests, four at a time
	$(MAKE) --jobs=2 venv venv-pipelines venv-serving prerequisites
	$(MAKE) --jobs=2 kubernetes images
	$(BIN)/python -m penstock_local.images build mpich-test
	GOGC=300 $(MAKE) --jobs=4 --output-sync=target -o prerequisites test-e2e test-pipelines lint test-unit test-aws test-local test-components \
	  test-api test-serving test-manifests lint-components lint-serving

test-unit: venv ## Unit tests, seconds
	$(BIN)/pytest -q tests/unit

test-api: venv ## The operator against a real API server
	$(BIN)/pytest -q tests/api

test-manifests: venv ## CRD, chart and kustomize against a real API server
	$(BIN)/pytest -q tests/manifests

test-aws: venv ## FSx for Lustre volumes against a fake AWS over HTTP, and the fake AWS itself
	$(BIN)/pytest -q tests/volumes tests/aws

test-components: venv-pipelines ## Components, alone and in Kubeflow Pipelines
	$(PIPELINES)/bin/pytest -q tests/components

test-pipelines: venv-pipelines ## Whole pipelines: both ways of the gate, a failure of every step, what is compiled
	$(PIPELINES)/bin/pytest -q tests/pipelines

test-serving: venv-serving ## The model server
	$(SERVING)/bin/pytest -q tests/serving

test-local: venv prerequisites ## The local cluster: what it gives, faults, what it leaves behind
	$(BIN)/pytest -q tests/local

test-e2e: venv venv-pipelines prerequisites ## Jobs, volumes and pipelines on real nodes: real pods, real MPI
	$(BIN)/pytest -q tests/e2e

lint: venv ## Style, types, layers, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --cache-dir=$(TYPES)/all
	$(BIN)/lint-imports

lint-components: venv venv-pipelines ## Types of components and pipelines
	$(BIN)/mypy --cache-dir=$(TYPES)/components --python-executable $(PIPELINES)/bin/python components/penstock_components pipelines/penstock_pipelines

lint-serving: venv venv-serving ## Types of the model server
	$(BIN)/mypy --cache-dir=$(TYPES)/serving --python-executable $(SERVING)/bin/python serving/penstock_serving

format: venv ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

generate: venv ## Write the CRD, the API reference and the kustomize base from their sources
	$(BIN)/python manifests/generate.py

kubernetes: venv ## Build what a local Kubernetes runs, and Helm, into the cache
	$(BIN)/python -c 'from penstock_local import binaries; print(binaries.ensure((*binaries.ALL, "fsx-csi")))'

images: venv prerequisites ## Build the images: operator, trainer, serving, components
	$(BIN)/python -m penstock_local.images build all

bench: bench-burst bench-ring bench-serving bench-pipeline ## All benchmarks

bench-burst: venv ## Bursts of jobs against a real API server; prints the table and keeps it in benchmarks/results
	$(BIN)/python benchmarks/table.py

bench-ring: venv prerequisites ## Horovod in the ring against the same mpirun by hand, in the local cluster
	$(BIN)/python benchmarks/ring.py

bench-serving: venv-serving ## The model server against kserve's own, same model, same requests
	test -x .venv-kserve/bin/python || { $(PYTHON) -m venv .venv-kserve && .venv-kserve/bin/$(PIP) kserve==0.21.0 && \
	  echo '$(abspath $(SERVING))/lib/python3.11/site-packages' > .venv-kserve/lib/python3.11/site-packages/torch.pth; }
	$(SERVING)/bin/python benchmarks/serving.py

bench-pipeline: venv-pipelines ## What kfp's local runner adds to a step
	$(PIPELINES)/bin/python benchmarks/pipeline.py

clean: ## Remove what is built in the checkout (not the cache)
	rm -rf $(VENV) $(PIPELINES) $(SERVING) .venv-kserve .mypy_cache .ruff_cache .pytest_cache .hypothesis
