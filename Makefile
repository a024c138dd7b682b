# `make lab` and `make test` work on a fresh machine with git, make and Python 3.11 or later: each first installs its
# requirements in .venv, from the package index in pip's configuration.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# byte code is kept: without it, each program compiles all that it imports, again at each start
export PYTHONDONTWRITEBYTECODE :=
.PHONY: help setup setup-kernel setup-image setup-datacenter setup-sessions setup-fips setup-test lab test datacenter check format golden bench bench-kernel bench-image bench-datacenter bench-sessions bench-update mutants lock clean

LAB ?= labs/01-clinic-128k.toml
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
BUILT := $(VENV)/built
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c "$(NEW_ENOUGH)" 2>/dev/null && echo $$python && break; done)

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

setup: $(BUILT)  ## install the command rap and the development tools in .venv

setup-kernel:  ## install packages for the kernel world; as root (apt-get, dnf)
	@sh tools/setup-packages.sh kernel

setup-image:  ## install packages for building and flashing images; as root (apt-get, dnf)
	@sh tools/setup-packages.sh image

setup-datacenter:  ## packages for tests of the data center; as root (apt-get, dnf)
	@sh tools/setup-packages.sh datacenter

setup-sessions:  ## packages for remote sessions: TigerVNC, noVNC, Chromium, httpd; as root (apt-get, dnf)
	@sh tools/setup-packages.sh sessions

setup-fips:  ## build OpenSSL's FIPS provider for tests; as root (apt-get)
	@sh tools/setup-fips.sh

lab: $(BUILT)  ## run a lab and write its report (LAB=labs/…)
	$(BIN)/rap lab run $(LAB) --report reports/$(basename $(notdir $(LAB)))

setup-test:  ## all packages for tests, and the FIPS provider; nothing unless run as root
	@test "$$(id -u)" != 0 || { sh tools/setup-packages.sh kernel image datacenter sessions && sh tools/setup-fips.sh; }

test: setup-test $(BUILT)  ## run all tests; as root also those of the kernel and of images, and install their packages
	$(BIN)/pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

datacenter: $(BUILT)  ## serve the data center's pages with a simulated fleet, until Ctrl-C
	$(BIN)/rap dc demo

check: $(BUILT)  ## check formatting, types, layers and rules of the repository
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tools.tidy

format: $(BUILT)  ## format the code, and fix what the linter can fix
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

golden: $(BUILT)  ## regenerate the files that are derived from the code
	$(BIN)/python -m tools.lab_reference
	$(BIN)/python -m tools.audit_reference
	$(BIN)/python -m tools.instrument_reference
	$(BIN)/python -m tools.api_reference
	$(BIN)/python -m tools.session_reference
	$(BIN)/python -m tools.package_diagram
	$(BIN)/python -m tools.threat_model
	$(BIN)/python -m tests.support.imaging.golden
	$(BIN)/python -m tests.support.imaging.edges
	$(BIN)/python -m tests.support.netfw.golden
	$(BIN)/python -m tests.support.sim.traces
	$(BIN)/python -m tests.support.agents.uplink.traces
	$(BIN)/python -m tests.support.agents.spool.traces

bench: $(BUILT)  ## run the benchmarks; results are in bench-results
	$(BIN)/python -m bench

bench-kernel: $(BUILT)  ## run the benchmarks of the real kernel; as root (ONLY=sweep)
	$(BIN)/python -m bench.kernel $(addprefix --only ,$(ONLY))

bench-image: $(BUILT)  ## run the benchmarks of images and flashing; as root (ONLY=flash)
	$(BIN)/python -m bench.image $(addprefix --only ,$(ONLY))

bench-datacenter: $(BUILT)  ## run the benchmarks of the data center (ONLY=pages; SCALE=0.1 for a tenth)
	$(BIN)/python -m bench.datacenter $(addprefix --only ,$(ONLY))

bench-sessions: $(BUILT)  ## run the benchmarks of remote sessions (ONLY=desktop, ONLY=exploration; as root ONLY=paths, ONLY=opening)
	$(BIN)/python -m bench.sessions $(addprefix --only ,$(ONLY))

bench-update: $(BUILT)  ## run the benchmarks of updates; as root (ONLY=delta)
	$(BIN)/python -m bench.update $(addprefix --only ,$(ONLY))

mutants: $(BUILT)  ## mutation testing: do the tests detect planted faults? (MODULE="spool link" ONLY=recovery FULL=1)
	nice $(BIN)/python -m tools.mutants $(addprefix --module ,$(MODULE)) $(addprefix --only ,$(ONLY)) $(if $(FULL),--full)

lock: $(BUILT)  ## update the locked versions of all packages
	CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --upgrade --extra dev --generate-hashes \
		--allow-unsafe --strip-extras --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
		--output-file requirements.txt pyproject.toml

clean:  ## remove all generated files
	rm -rf $(VENV) build reports bench-results *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -rf .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): requirements.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or later found; install it, or give its path: make PYTHON=/path/to/python3" >&2; exit 3; }
	@$(PYTHON) -c "$(NEW_ENOUGH)" || { echo "make: $(PYTHON) is not Python 3.11 or later" >&2; exit 3; }
	@$(PYTHON) -c "import ensurepip, venv" || { echo "make: $(PYTHON) cannot create virtual environments; install its venv package (python3-venv)" >&2; exit 3; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.txt
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# the extension modules, built again in place when their sources change
$(BUILT): $(READY) setup.py hal/linux/ioctl_build.py $(wildcard datacenter/*/*_build.py datacenter/*/[!_]*.c)
	$(BIN)/python setup.py --quiet build_ext --inplace
	@touch $@
