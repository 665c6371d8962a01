# Everything runs in .venv, installed from hashed pins. Needs only Python >= 3.11 and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check
DEMO_SECONDS ?=

.PHONY: demo test torture bench check lock clean

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "MarketPipe needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements.lock pyproject.toml | $(VENV)/bin/python
	$(PIP) --require-hashes -r requirements.lock
	$(PIP) --no-deps --no-build-isolation -e .
	touch $@

$(VENV)/.dev: requirements-dev.lock $(VENV)/.run
	$(PIP) --require-hashes -r requirements-dev.lock
	touch $@

# A peer pins an older pandas than ours, so the benchmarks have an environment of their own.
.venv-bench/.ready: requirements-bench.lock pyproject.toml
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bench.lock
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

demo: $(VENV)/.run  ## a simulated vendor, live: bars in store and lake, and their proof
	$(BIN)/marketpipe demo $(if $(DEMO_SECONDS),--seconds $(DEMO_SECONDS))

test: $(VENV)/.dev  ## the whole test suite
	tools/servers.sh
	$(BIN)/python -m pytest

torture: $(VENV)/.dev  ## kills, faults and instants in full; writes docs/torture.md
	$(BIN)/python -m pytest -m torture

bench: .venv-bench/.ready  ## peers and ours in one run; writes docs/benchmarks.md
	.venv-bench/bin/python -m bench

check: $(VENV)/.dev  ## format, lint, types, import contracts, file lengths, docs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python tools/file_lengths.py
	$(BIN)/mkdocs build --strict --quiet --site-dir $(VENV)/site

COMPILE = uv pip compile pyproject.toml --extra dbn --extra postgres --group build --python-version 3.11 --generate-hashes \
	--no-header --no-annotate --no-emit-index-url --quiet

lock:  ## re-resolve the pins (needs uv)
	$(COMPILE) --universal -o requirements.lock
	$(COMPILE) --universal --group dev -c requirements.lock -o requirements-dev.lock
	$(COMPILE) --python-platform x86_64-manylinux_2_35 --group bench -o requirements-bench.lock

clean:
	rm -rf $(VENV) .venv-bench .pytest_cache .mypy_cache .ruff_cache .hypothesis
