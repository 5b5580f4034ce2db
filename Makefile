# Every target runs by itself on a fresh clone: what it needs is made first.
# PYTHON picks the interpreter, VENV the virtual environment, ARGS is handed to pytest, the demo and the benchmarks.
PYTHON ?= python3
VENV ?= .venv
ARGS ?=
export PYTHON

DEV := $(VENV)/.installed-dev
DEMO := $(VENV)/.installed-demo
SOURCES := setup.cfg pyproject.toml
PYTEST := $(VENV)/bin/pytest

.PHONY: help venv gomp demo servers test test-cluster guards lint types terraform package publish bench bench-short bench-cluster clean
.DEFAULT_GOAL := help

help: ## show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

venv: $(DEV) ## make the virtual environment with everything a developer needs

$(DEV): $(SOURCES) ci/venv
	@ci/venv $(VENV) dev,demo,parquet,catboost,cluster
	@touch $(DEMO) $@

$(DEMO): $(SOURCES) ci/venv
	@ci/venv $(VENV) demo
	@touch $@

gomp: ## make sure that the system has libgomp, which LightGBM's wheel loads
	@ci/gomp

demo: gomp $(DEMO) ## the main job: train, publish, serve, swap, break and report on real data
	$(VENV)/bin/rdv demo $(ARGS)

test: gomp $(DEV) ## every test that needs no server (the same as .venv/bin/pytest -n 3)
	$(PYTEST) -n 3 $(ARGS)

servers: ## Nomad, Consul, Vault and an S3 server into the user's cache folder (ARGS="--with hdfs" for HDFS as well)
	@ci/servers/install $(ARGS)

test-cluster: gomp $(DEV) ## every test that needs a real server; what is missing is built first
	@ci/servers/install --with hdfs
	RDV_LIVE=1 $(PYTEST) -n 3 --dist loadgroup -m live $(ARGS)

guards: $(DEV) ## packaging, imports between rooms, docstrings and file sizes
	$(PYTEST) -q tests/test_packaging.py tests/test_rooms.py tests/test_docstrings.py

lint: $(DEV) ## ruff
	$(VENV)/bin/ruff check .

types: $(DEV) ## mypy and pyright over the link tree, no file skipped
	$(VENV)/bin/python ci/check_types.py

terraform: $(DEV) ## form, arguments and values of terraform/; what could not be run is printed
	$(VENV)/bin/python ci/terraform/check.py

package: $(DEV) ## build sdist and wheel, install the wheel alone, try it
	$(VENV)/bin/python ci/check_package.py

publish: $(DEV) ## give what make package built to the index that TWINE_REPOSITORY_URL names
	$(VENV)/bin/python ci/publish.py

bench: gomp $(DEV) ## all figures against their floors
	$(VENV)/bin/python benchmarks/run.py $(ARGS)

bench-short: gomp $(DEV) ## the same in short form
	$(VENV)/bin/python benchmarks/run.py --short $(ARGS)

bench-cluster: gomp $(DEV) ## the figures that need real servers, which are built first (ARGS="--short" in short form)
	@ci/servers/install --with hdfs
	$(VENV)/bin/python benchmarks/run.py --cluster $(ARGS)

clean: ## remove what was generated, not the virtual environment
	rm -rf links build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
