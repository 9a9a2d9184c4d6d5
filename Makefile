# Everything runs in an environment that the first target to need it makes: .venv for the default Python,
# and one of its own for any other, so that `make test PYTHON=python3.13` makes and uses .venv-3.13.
DEFAULT := python3
PYTHON ?= $(DEFAULT)
ifeq ($(PYTHON),$(DEFAULT))
FOUND = $(shell .ci/find-python $(PYTHON))
VENV := .venv
else
FOUND := $(shell .ci/find-python $(PYTHON))
VENV := .venv-$(if $(FOUND),$(shell $(FOUND) -c 'import sys; print("%d.%d" % sys.version_info[:2] + sys.abiflags)'),$(error PYTHON=$(PYTHON)))
endif
BIN := $(VENV)/bin
# Thousands of processes read the same modules here: each would compile them anew.
unexport PYTHONDONTWRITEBYTECODE
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# Tests that want the machine for themselves.
ALONE := $(addprefix tests/,integration/capacity integration/demo)
# Tests that wait for processes and servers most of their time.
WAITING := $(addprefix tests/,unit/cli unit/flags unit/integrations unit/monitoring unit/pages kit/servers \
	integration/clients integration/examples integration/fleet integration/greenlets integration/gunicorn integration/prefork \
	integration/prometheus integration/storm integration/versions)
# What `make quick` leaves out: slow, and hardly different from one Python to another.
SLOW := $(addprefix tests/,unit/cli unit/flags/journal unit/integrations unit/monitoring unit/pages unit/testing kit/servers \
	unit/clients/test_memory.py unit/engine/streams/test_memory.py \
	properties/cancellation/test_streams_sweep.py properties/stress/test_counts.py \
	integration/capacity integration/clients integration/demo integration/examples integration/fleet integration/gunicorn integration/prefork \
	integration/prometheus integration/storm integration/transparency integration/versions public/test_suite.py unit/simulate/test_proof.py)
# What `make coverage` runs: the tests of guards, engine and flags; unit/flags, which waits, beforehand.
MEASURED := $(addprefix tests/,unit/admin unit/engine unit/guards unit/policy regressions \
	properties/differential properties/fork properties/models properties/promises unit/test_process.py)

# What `make core` runs, on each Python with the compiled core and without it.
CORE := $(addprefix tests/,unit/guards unit/engine unit/policy regressions properties)

.DEFAULT_GOAL := help
.PHONY: help demo test quick core loops trial freeze soak prefork simulate fleet storm claims capacity coverage picture pictures lint changelog types docs links release-check bench profile house format clean

help:  ## say what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: $(VENV)/demo  ## run the demo: a service with and without a policy, on one schedule of faults
	$(BIN)/python -m demo

test: $(VENV)/test  ## run all tests
	$(BIN)/python -m pytest -n 6 $(WAITING)
	$(BIN)/python -m pytest -n 2 $(addprefix --ignore=,$(ALONE) $(WAITING))
	$(BIN)/python -m pytest $(ALONE)

# Its longest models try fewer examples, too.
quick: export RESILIENT_QUICK := 1
quick: $(VENV)/test  ## run all tests but the slow ones
	$(BIN)/python -m pytest -n 6 $(filter-out $(SLOW),$(WAITING)) $(addprefix --ignore=,$(SLOW))
	$(BIN)/python -m pytest -n 2 $(addprefix --ignore=,$(sort $(WAITING) $(SLOW)))

core: $(VENV)/test  ## the tests of guards, engine, policies and promises; RESILIENT_PURE=1 runs them without the compiled core
	$(BIN)/python -m pytest -n 2 $(CORE)

loops: export TEST_LOOP := uvloop
loops: $(VENV)/test  ## blocks, promises and the differential test on uvloop; half a minute
	$(BIN)/python -m pytest -n 2 $(addprefix tests/,unit/engine/blocks properties/differential properties/promises)

trial: $(VENV)/test  ## flip flags in a service of gunicorn under load, on SQLite and Redis; about 4 min
	$(BIN)/python -m tests.integration.gunicorn.flips_trial

freeze: $(VENV)/test  ## freeze Redis, PostgreSQL and an HTTP API under a service, each for 20 s; about 3 min
	$(BIN)/python -m tests.integration.clients.freeze_trial

soak: $(VENV)/test  ## fork and flip together on one SQLite store: it stays whole, no child hangs; about 5 min
	$(BIN)/python -m tests.unit.flags.soak 300

prefork: $(VENV)/test  ## kill gunicorn's workers under load: totals stay exact, scrapes fast; about 90 s
	$(BIN)/python -m tests.integration.prefork.deaths_trial

simulate: $(VENV)/test  ## the storm of examples/stall.toml for 200 seeds: ours are back, naive retries stay down; about 9 min
	$(BIN)/python -m tests.unit.simulate.proof_trial 200

fleet: $(VENV)/test  ## eight processes share one rate limit while Redis answers, dies and comes back; about 40 s
	$(BIN)/python -m tests.integration.fleet.fleet_trial

storm: $(VENV)/test  ## the same with real processes on loopback; about 90 s
	$(BIN)/python -m tests.integration.storm.storm_trial

claims: $(VENV)/peers  ## what docs/explanation/comparison.md says of other Python libraries, seen; 15 s
	$(BIN)/python -m tests.integration.peers.claims

capacity: $(VENV)/test  ## a real service has 20 workers, then 5, then 20: a limit finds it, fixed ones do not; about 65 s
	$(BIN)/python -m tests.integration.capacity.capacity_trial

# Which tests fail is what `make test` says: here it is ignored.
coverage: $(VENV)/test  ## the branches that tests take; fails where they are fewer than benchmarks/branches.toml says
	@$(BIN)/coverage erase
	-$(BIN)/coverage run -m pytest -n 4 -q tests/unit/flags
	-$(BIN)/coverage run -m pytest -n 2 -q $(MEASURED)
	@$(BIN)/coverage combine --quiet
	$(BIN)/python -m benchmarks.branches

lint: $(VENV)/lint  ## check style and layout
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@$(BIN)/towncrier build --draft --version next >/dev/null

changelog: $(VENV)/lint  ## build CHANGELOG.md from the fragments in changes/, for the version of pyproject.toml
	$(BIN)/towncrier build --yes

types: $(VENV)/types  ## mypy and pyright, both strict
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pyright --verifytypes resilient --ignoreexternal

picture: $(VENV)/test  ## draw `resilient top` for the README, from a real run; about 20 s
	$(BIN)/python docs/pictures/top.py

pictures: $(VENV)/test  ## draw what the docs show of simulated storms and of each guard; seconds
	$(BIN)/python docs/pictures/storm.py
	$(BIN)/python docs/pictures/guards.py

docs: $(VENV)/docs  ## build the docs; warnings, dead links inside and misspelt words are errors
	$(BIN)/codespell
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

links: $(VENV)/docs  ## ask for each link to the outside; needs the internet, and so is no part of CI
	$(BIN)/sphinx-build -W --keep-going -q -b linkcheck docs docs/_build/links

release-check:  ## build sdist and wheels, and try each as its users would; about 4 min; KEEP=dist keeps what was tried
	.ci/release-check $(FOUND) $(KEEP)

bench: $(VENV)/bench  ## what a guarded call costs beside its peers, and how that grows; fails if a goal is missed
	$(BIN)/python -m benchmarks

profile: $(VENV)/bench  ## what each part of a guarded call costs
	$(BIN)/python benchmarks/profile.py

house: $(VENV)/test  ## the structure in numbers: files, circles, long functions, what a call touches
	$(BIN)/python -m benchmarks.house

format: $(VENV)/lint  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove what the other targets made
	rm -rf .venv .venv-* build src/*.egg-info src/resilient/*.so docs/_build demo-output .mypy_cache .ruff_cache .hypothesis .coverage*

$(VENV)/made:
	@test -n '$(FOUND)'
	@$(FOUND) -c 'import sys; sys.exit("Python 3.11 or later is needed; this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@$(FOUND) -c 'import ensurepip, venv' || { echo 'Python has no venv module here; on Debian: apt-get install python3-venv'; exit 1; }
	$(FOUND) -m venv $(VENV)
	@touch $@

# The library itself, with its compiled core: made anew when the C changes.
$(VENV)/built: $(VENV)/made pyproject.toml setup.py $(wildcard src/resilient/engine/core/*.[ch])
	RESILIENT_PURE= $(PIP) install --editable .
	@touch $@

# A stamp for each group of dependencies in requirements/: made anew when one of those files changes.
GROUPS := demo test lint types docs bench peers
$(GROUPS:%=$(VENV)/%): $(VENV)/%: $(VENV)/built pyproject.toml $(wildcard requirements/*.txt)
	$(PIP) install --no-compile -r requirements/$*.txt
	@touch $@
