# `make demo` and `make test` each work as the first command after cloning: both build .venv when it is not there.
#
#   make demo     five real processes train one model on real hospitals' data
#   make quick    the tests that start nothing and take no time      make check ROOM=sharing   those of one folder
#   make test     every test          make lint   ruff and strict mypy          make bench   the promised ratios
#                 (make bench ONLY="sum ledger": some sections, each under ten minutes, beside what was found last)
#   make thorough every test, with all the examples and seeds that it states
#   make docs     the pages of docs/ that are written from the code      make site   the manual as a site, in site/
#   make sbom     what is installed, as CycloneDX
#
# PYTHON=python3.12 picks another interpreter (3.11 or newer). VENV=… puts the environment elsewhere.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
ARGS   ?=
# `make bench`: which sections (`python -m benchmarks._bench --list`), and where findings are kept and compared.
ONLY   ?=
RESULTS ?= bench.jsonl
# Tests side by side, two more than two cores: many wait for other processes. 0 runs all in one process.
JOBS   ?= 4
# Compiled test files are kept, as Python does by default: rewriting all asserts anew takes each worker ten seconds.
PYTEST  = OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -q -n $(JOBS) --dist loadscope --no-loadscope-reorder

.PHONY: demo quick check test thorough lint types docs site bench sbom install clean
.DEFAULT_GOAL := demo

install: $(STAMP)

$(STAMP): pyproject.toml requirements-dev.lock p2pfl/sharing/_kernel.c
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "p2pfl needs Python 3.11 or newer; this is $$($(PYTHON) -V 2>&1). Try: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "installing p2pfl with PyTorch, its demo and its tests into $(VENV), once: one minute to ten, in silence"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements-dev.lock -e '.[demo,dev]'
	@touch $@

demo: $(STAMP)
	$(BIN)/p2pfl demo $(ARGS)

quick: $(STAMP)
	P2PFL_THOROUGH=0 $(PYTEST) --durations=5 -m "not (processes or readme or network or sockets or storms or slow)" $(ARGS)

check: $(STAMP)
	P2PFL_THOROUGH=0 $(PYTEST) --durations=5 tests/$(ROOM) $(ARGS)

test: $(STAMP)
	$(PYTEST) --durations=20 $(ARGS)

thorough: $(STAMP)
	P2PFL_THOROUGH=$${P2PFL_THOROUGH:-1} $(PYTEST) --durations=20 $(ARGS)

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

types: $(STAMP)
	$(BIN)/mypy

# What is written from the code: the claims' tests, the reference, the drawing of the protocol.
docs: $(STAMP)
	$(BIN)/python -m tools.claims
	$(BIN)/python -m tools.reference
	$(BIN)/python -m tools.draw_rounds
	$(BIN)/python -m tools.checklist

# The manual as a site, in site/: python3 -m http.server -d site
site: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build -q

# What is compared with others needs their environments; no other section does.
bench: $(STAMP)
	@for other in $(if $(ONLY),$(if $(filter others secagg_plus,$(ONLY)),.flower) $(if $(filter others tenseal_ckks,$(ONLY)),.tenseal),.flower .tenseal); do \
	  $(MAKE) --no-print-directory $$other/.installed || echo "$$other: not installed here" >&2; done
	@$(BIN)/python -m benchmarks._bench --only '$(ONLY)' --results '$(RESULTS)' -- $(ARGS)

# What is installed in .venv, with releases and licences, as CycloneDX 1.6: for whoever watches for known weaknesses.
sbom: $(STAMP) .sbom/.installed
	.sbom/bin/cyclonedx-py environment $(BIN)/python --pyproject pyproject.toml --spec-version 1.6 --output-reproducible -o sbom.json
	@echo "sbom.json: $$(grep -c '"purl"' sbom.json) distributions"

# What two benchmarks compare with, each in an environment of its own.
.sbom/.installed: OTHER = cyclonedx-bom==7.5.0
.flower/.installed: OTHER = flwr==1.42.0
.tenseal/.installed: OTHER = tenseal==0.3.18
.flower/.installed .tenseal/.installed .sbom/.installed:
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check $(OTHER)
	@touch $@

clean:
	rm -rf $(VENV) .flower .tenseal .sbom sbom.json build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
