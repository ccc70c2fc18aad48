# `make` lists the targets. Everything installs itself: uv into .uv/, the locked environment into .venv/.
PYTHON ?= python3
UV := .uv/bin/uv
RUN := .venv/bin/
DEMO := runs/scenes-retinanet/mini/seed=0
export NO_ALBUMENTATIONS_UPDATE := 1

# What `make reproduce-<paper>` may be told.
SEEDS ?= 0,1,2
LAUNCHER ?= basic# or joblib, submitit_local, submitit_slurm
TABLE ?= *# one table of the paper
DATA ?=# the folder of the paper's data, for SCALE=paper
DATA_CONFIG ?=# conf/data/<this>.yaml: the same table on your own data
SCALE ?= $(if $(DATA_CONFIG),small,mini)# or paper
ARGS ?=# any further overrides
SETTING := $(or $(DATA_CONFIG),$(SCALE))
CHOSEN = scale=$(SCALE) $(if $(DATA_CONFIG),data=$(DATA_CONFIG) setting=$(DATA_CONFIG)) $(if $(DATA),data.root=$(DATA))
# Tables whose rows differ at SCALE=paper alone (backbone, resolution); elsewhere they run only if TABLE names them.
PAPER_ONLY := iou_balanced/table1 alrp/table4 paa/table3 certainty/table1_voc_multi
SKIPPED = $(if $(filter-out paper,$(SCALE)),$(if $(filter *,$(TABLE)),$(filter $*/%,$(PAPER_ONLY))))
# A line per stage, experiments separated by commas: what `needs:` names in the tables comes first.
STAGES = $(RUN)python -m detlab.reporting.study.needs '$*/$(TABLE)' $(SKIPPED:%=--without=%)
SWEPT = $(CHOSEN) seed=$(SEEDS) hydra/launcher=$(LAUNCHER) $(ARGS)
PAPERS := $(sort $(foreach study,$(wildcard experiments/*/*.yaml),$(notdir $(patsubst %/,%,$(dir $(study))))))

.DEFAULT_GOAL := help
.PHONY: help setup demo reproduce table1-alrp test test-all test-slurm check format bench notebook clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9%-]+:.*## /{printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

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

reproduce: ## every paper's tables, one after the other
	@$(MAKE) --no-print-directory -k $(PAPERS:%=reproduce-%)

reproduce-%: setup ## a paper's tables: SCALE, SEEDS, LAUNCHER, TABLE, DATA, DATA_CONFIG, ARGS; again to go on
	@stages=$$($(STAGES)) || exit; status=0; \
	for rows in $$stages; do \
		set -- train -m "experiment=$$rows" $(SWEPT); echo "detlab $$*"; \
		$(RUN)detlab "$$@" || { status=$$?; break; }; \
	done; \
	$(RUN)detlab report $* setting=$(SETTING) && exit $$status

cost-%: setup ## one training step of each of a paper's rows at paper scale, and its estimated GPU hours
	$(RUN)detlab cost -m 'experiment=glob($*/$(TABLE)/*,exclude=[proxy/sources/classifier])' scale=paper $(ARGS)

figures-%: setup ## a paper's figures from its runs, as PNG and CSV in runs/<paper>: SCALE, DATA_CONFIG, ARGS
	$(RUN)detlab draw $* setting=$(SETTING) $(ARGS)

table1-alrp: setup ## count the hyper-parameters of every loss (aLRP Loss, Table 1)
	$(RUN)python -m experiments.alrp.table1

test: check ## lint, types, layers and the quick tests
	$(RUN)python -m pytest -n 2 -m "not slow"

test-all: check ## the same with every test
	$(RUN)python -m pytest -n 2

test-slurm: setup ## sweeps on a real Slurm of one node: requeued, timed out, cancelled (as root; installs it)
	PYTHON=$(CURDIR)/$(RUN)python tests/slurm/run.sh

check: setup ## ruff (lint and format), mypy and the layers of the package
	$(RUN)ruff check .
	$(RUN)ruff format --check .
	$(RUN)mypy
	$(RUN)lint-imports --no-logo

format: setup ## let ruff mend what it can
	$(RUN)ruff check --fix .
	$(RUN)ruff format .

bench: setup ## speed beside reference implementations, as ratios
	$(RUN)python -m experiments.benchmarks

notebook: setup ## open the notebook's folder in Jupyter
	$(UV) run --with jupyterlab jupyter lab notebooks

clean: ## remove the environment and caches (runs/ and data/ stay)
	rm -rf .venv .uv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
