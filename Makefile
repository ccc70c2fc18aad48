# `make` lists the targets. Everything installs itself: uv into .uv/, the locked environment into .venv/.
PYTHON ?= python3
UV := .uv/bin/uv
RUN := .venv/bin/
DEMO := runs/scenes-retinanet/mini/seed=0
export NO_ALBUMENTATIONS_UPDATE := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format bench notebook clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  \033[1m%-10s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.synced ## install uv and the locked environment (every other target does this first)

$(UV):
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if v >= (3, 11) else "detlab needs Python 3.11 or newer, $(PYTHON) is %d.%d; set PYTHON=..." % v[:2])'
	$(PYTHON) -m venv .uv
	.uv/bin/python -m pip install --quiet --disable-pip-version-check uv

.venv/.synced: $(UV) pyproject.toml uv.lock
	$(UV) sync --locked --quiet
	@touch $@

demo: setup ## train, evaluate and report on the embedded scenes (minutes on a CPU)
	$(RUN)detlab train
	@echo "Open $(CURDIR)/$(DEMO)/report.html"

test: check ## lint, type-check and run the tests
	$(RUN)python -m pytest -n 2

check: setup ## ruff (lint and format) and mypy
	$(RUN)ruff check .
	$(RUN)ruff format --check .
	$(RUN)mypy

format: setup ## let ruff mend what it can
	$(RUN)ruff check --fix .
	$(RUN)ruff format .

bench: setup ## speed beside reference implementations, as ratios
	$(RUN)python -m experiments.benchmarks

notebook: setup ## open the notebook's folder in Jupyter
	$(UV) run --with jupyterlab jupyter lab notebooks

clean: ## remove the environment and caches (runs/ and data/ stay)
	rm -rf .venv .uv .mypy_cache .pytest_cache .ruff_cache
