# Everything runs in .venv, which the first target to need it makes.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# Tests that want the machine for themselves.
ALONE := tests/stress tests/faults tests/cancel tests/metrics tests/demo
# Tests that wait for processes and servers most of their time.
WAITING := tests/cli tests/flags tests/integrations tests/servers tests/pages tests/prefork tests/monitoring tests/top tests/journal

.DEFAULT_GOAL := help
.PHONY: help demo test trial freeze soak prefork picture lint types docs bench profile format clean

help:  ## say what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: .venv/demo  ## run the demo: a service with and without a policy, on one schedule of faults
	$(BIN)/python -m demo

test: .venv/test  ## run all tests
	$(BIN)/python -m pytest -n 4 $(WAITING)
	$(BIN)/python -m pytest -n 2 $(addprefix --ignore=,$(ALONE) $(WAITING))
	$(BIN)/python -m pytest $(ALONE)

trial: .venv/test  ## flip flags in a service of gunicorn under load, on SQLite and Redis; about 4 min
	$(BIN)/python tests/cli/trial.py

freeze: .venv/test  ## freeze Redis, PostgreSQL and an HTTP API under a service, each for 20 s; about 3 min
	$(BIN)/python tests/integrations/trial.py

soak: .venv/test  ## fork and flip together on one SQLite store: it stays whole, no child hangs; about 5 min
	$(BIN)/python tests/flags/soak.py 300

prefork: .venv/test  ## kill gunicorn's workers under load: totals stay exact, scrapes fast; about 90 s
	$(BIN)/python tests/prefork/trial.py

lint: .venv/lint  ## check style and layout
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/types  ## mypy and pyright, both strict
	$(BIN)/mypy
	$(BIN)/pyright
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pyright --verifytypes resilient --ignoreexternal

picture: .venv/test  ## draw `resilient top` for the README, from a real run; about 20 s
	$(BIN)/python docs/pictures/top.py

docs: .venv/docs  ## build the docs, warnings are errors
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

bench: .venv/bench  ## what a guarded call costs beside its peers, and how that grows; fails if a goal is missed
	$(BIN)/python -m benchmarks

profile: .venv/bench  ## what each part of a guarded call costs
	$(BIN)/python benchmarks/profile.py

format: .venv/lint  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove what the other targets made
	rm -rf .venv docs/_build demo-output .mypy_cache .ruff_cache .hypothesis

.venv/made:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed; this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -c 'import ensurepip, venv' || { echo 'Python has no venv module here; on Debian: apt-get install python3-venv'; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

# A stamp for each group of dependencies in pyproject.toml: made anew when that file changes.
.venv/demo .venv/test .venv/lint .venv/types .venv/docs .venv/bench: .venv/%: .venv/made pyproject.toml requirements/%.txt
	$(PIP) install -r requirements/$*.txt
	$(PIP) install --editable .
	@touch $@
