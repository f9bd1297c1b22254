# Two commands matter: `make demo` and `make test`. Both do all of their own set-up.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test faults check format bench clean

help:  ## what can be made
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(READY)  ## the virtual environment, with storebus installed in it

$(READY): pyproject.toml tools/setup.sh
	@PYTHON="$(PYTHON)" VENV="$(VENV)" sh tools/setup.sh

demo: $(READY)  ## a small chain on this machine, from first directive to proof
	@$(BIN)/hq demo

test: $(READY)  ## all tests, under five minutes
	$(BIN)/python -m pytest -n 4

faults: $(READY)  ## everything that can go wrong, by the thousand; under an hour
	$(BIN)/python -m tests.faults

check: $(READY)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)  ## put the code into its style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## measured figures, as ratios in one run
	$(BIN)/python -m bench

clean:  ## remove what was made
	rm -rf "$(VENV)" build ./*.egg-info .pytest_cache .mypy_cache .ruff_cache
