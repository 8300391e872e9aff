# `make help` lists the targets. `make demo` and `make test` set up the environment first.

VENV ?= .venv
# The pins in requirements/ are for this Python.
PYTHON_VERSION := 3.11
PYTHON ?= $(shell python$(PYTHON_VERSION) -c '' 2>/dev/null && echo python$(PYTHON_VERSION) || echo python3)

BIN := $(VENV)/bin
STAMP := $(VENV)/.bsst_plugin_installed
PIP_INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check
FAILED = { echo 'make env: $(1)' >&2; exit 1; }
# On a busy machine, threads that spin long while they wait slow each other down many times over.
export GOMP_SPINCOUNT ?= 50000
RETRY := see the error above, then run make env again: what is installed stays

# Training time of each network in compare and ablation.
MINUTES ?= 9

.PHONY: help env demo demo-train compare ablation test lint
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST)

env: $(STAMP) ## create the environment (VENV=..., PYTHON=...); does nothing the second time

demo: env ## deblur rendered clips with the weights that ship, measure and show it (a minute or two)
	@$(BIN)/python -W ignore::FutureWarning tools/demo.py $(ARGS)

demo-train: env ## train a small model from scratch on rendered clips, test and show it (3 to 6 minutes)
	@$(BIN)/python -W ignore::FutureWarning tools/demo_train.py $(ARGS)

compare: env ## train five methods for MINUTES=9 each and write docs/comparison.md (an hour)
	@$(BIN)/python -W ignore tools/contest.py compare --minutes $(MINUTES) $(ARGS)

ablation: env ## the same for Tables 5 to 7 at a small size: docs/ablation.md
	@$(BIN)/python -W ignore tools/contest.py ablation --minutes $(MINUTES) $(ARGS)

test: env ## run all tests, in two processes (ARGS='-m "not slow"' leaves out the slow ones)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

lint: env ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(STAMP): $(wildcard requirements/*.txt) setup.py tools/install_mmcv.py
	@$(PYTHON) -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] != "$(PYTHON_VERSION)")' 2>/dev/null \
	  || $(call FAILED,the pinned requirements need Python $(PYTHON_VERSION) and $(PYTHON) is not: install it or give its path with PYTHON=...)
	@echo '[1/4] creating $(VENV) (a few seconds)'
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || $(call FAILED,$(RETRY))
	@$(BIN)/python tools/install_mmcv.py --check
	@echo '[2/4] installing the pinned requirements (6 GB with the CUDA build of torch; 3 to 15 minutes, silent)'
	@$(PIP_INSTALL) -r requirements/pins.txt || $(call FAILED,$(RETRY))
	@echo '[3/4] installing mmcv with its operators (seconds from a wheel; about 14 minutes on two cores from source)'
	@$(BIN)/python tools/install_mmcv.py
	@echo '[4/4] installing bsst_plugin, editable (a few seconds)'
	@$(PIP_INSTALL) --no-build-isolation -c requirements/lock.txt -e . || $(call FAILED,$(RETRY))
	@touch $@
	@echo 'done: the environment is in $(VENV)'
