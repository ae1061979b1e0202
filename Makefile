# Everything a newcomer needs: Python 3.11 or newer with pip. `make` alone lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

ROBOTS ?= 4
MINUTES ?= 10
SEED ?= 0
OUT ?= runs/demo

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow check monitoring-test fuzz chaos soak bench profile clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*  ## ' $(MAKEFILE_LIST) | sed -E 's/:.*  ## /\t/' | \
	  while IFS="$$(printf '\t')" read -r target text; do printf '  make %-10s %s\n' "$$target" "$$text"; done
	@echo
	@echo '  PYTHON=python3.12 chooses the interpreter; ROBOTS, MINUTES, SEED and OUT set the demo.'
	@echo '  Without a GPU, PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu saves a few GB.'

demo: $(INSTALLED)  ## a simulated fleet learns to grasp on this machine, ten minutes
	@exec $(BIN)/fleet demo --robots $(ROBOTS) --minutes $(MINUTES) --seed $(SEED) --out $(OUT)

test: $(INSTALLED)  ## the test suite, with a two-minute fleet that must learn in it
	@$(BIN)/pytest -q -n 2 --dist loadfile -m "not slow and not chaos and not alone"
	@exec $(BIN)/pytest -q -m "alone and not slow and not chaos"

test-slow: $(INSTALLED)  ## the tests that take many minutes
	@exec $(BIN)/pytest -q -m slow --timeout=3600

check: $(INSTALLED)  ## lint, format, types, import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

monitoring-test: $(INSTALLED)  ## rules and dashboards against promtool, amtool and a real Prometheus
	@for tool in promtool amtool prometheus; do command -v $$tool >/dev/null || { echo "$$tool is missing: \
	  apt-get install prometheus prometheus-alertmanager, or see docs/monitoring.md" >&2; exit 1; }; done
	@exec $(BIN)/pytest -q tests/deploy/test_alerts.py tests/deploy/test_dashboards.py \
	  tests/deploy/test_dashboards_live.py

fuzz: $(INSTALLED)  ## fuzz every byte from a network: 30 minutes or 10 million inputs (FUZZ=--help)
	@exec $(BIN)/python -m tests.fuzz $(FUZZ)

chaos: $(INSTALLED)  ## kill every part of a fleet for ten minutes, then the long faults (CHAOS=--help)
	@$(BIN)/python -m tests.chaos $(CHAOS)
	@exec $(BIN)/pytest -q -m chaos -rP --timeout=3600

soak: $(INSTALLED)  ## half an hour of 50 robots: what grows, and how fast (SOAK=--help)
	@exec $(BIN)/python -m tests.soak $(SOAK)

bench: $(INSTALLED)  ## half an hour of benchmarks, against peers and bounds (BENCH=--help)
	@exec $(BIN)/python -m tests.benchmarks $(BENCH)

profile: $(INSTALLED)  ## where the gateway's and an agent's time goes (PROFILE=--help)
	@exec $(BIN)/python -m tests.profiling $(PROFILE)

clean:  ## remove the virtual environment and caches, never a run
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build *.egg-info

# `pip --python` installs into the environment from outside, so a Python whose distribution
# leaves ensurepip out (Debian without python3-venv) will do as well.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "GraspFleet needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try make PYTHON=python3.12" >&2; exit 1; }
	@echo "setting up $(VENV): one to three minutes when packages are cached, longer on a slow line ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv --without-pip $(VENV)
	@$(PYTHON) -m pip --python $(BIN)/python install -qq --disable-pip-version-check \
	  --no-input --constraint constraints.txt --editable '.[development]'
	@touch $@
	@echo "$(VENV) is ready"
