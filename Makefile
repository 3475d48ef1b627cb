# `make help` lists every target.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help venv prerequisites demo test test-unit test-api test-manifests test-e2e lint format generate images bench bench-burst bench-ring clean

help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

venv: $(VENV)/.ready ## Python environment with everything for development

prerequisites: ## Debian packages for the local cluster and the images (needs root)
	./local/prerequisites.sh

demo: venv prerequisites ## Kubernetes on this machine, the operator, and a model trained in it (CLUSTER=current: your own cluster)
	$(BIN)/python -m penstock_local.demo

test: lint test-unit test-api test-manifests test-e2e ## All checks and tests

test-unit: venv ## Unit tests, seconds
	$(BIN)/pytest -q tests/unit

test-api: venv ## The operator against a real API server
	$(BIN)/pytest -q tests/api

test-manifests: venv ## CRD, chart and kustomize against a real API server
	$(BIN)/pytest -q tests/manifests

test-e2e: venv prerequisites ## Real nodes, real pods, real MPI
	$(BIN)/pytest -q tests/local tests/e2e

lint: venv ## Style, types, layers, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: venv ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

generate: venv ## Write the CRD, the API reference and the kustomize base from their sources
	$(BIN)/python manifests/generate.py

images: venv prerequisites ## Build the operator's and the trainer's image
	$(BIN)/python -m penstock_local.images build all

bench: bench-burst bench-ring ## All benchmarks

bench-burst: venv ## Bursts of jobs against a real API server; prints the table and keeps it in benchmarks/results
	$(BIN)/python benchmarks/table.py

bench-ring: venv prerequisites ## Horovod in the ring against the same mpirun by hand, in the local cluster
	$(BIN)/python benchmarks/ring.py

clean: ## Remove what is built in the checkout (not the cache)
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
