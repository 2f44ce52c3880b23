# `make help` lists the targets. Everything happens in .venv (and .venv-peers for the long tests).
PYTHON ?= python3
OUT ?= demo-output
BIN := .venv/bin
PEERS := .venv-peers/bin
UV := $(shell command -v uv 2>/dev/null)
# uv is used where it is installed, because it is faster; pip does the same.
install = $(if $(UV),uv pip install -q --python $(1)/python,$(1)/python -m pip install -q)
SOURCES := $(shell find rust kernels -name '*.rs' -o -name '*.py' -o -name Cargo.toml) Cargo.toml Cargo.lock pyproject.toml
PYTEST_FLAGS ?= -q -m "not peers" -n 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help demo test test-peers conformance bench bench-quick lint format docs wheel clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

.make/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "rollmath needs Python 3.11 or newer")'
	@command -v cargo >/dev/null || { echo "rollmath needs a Rust toolchain (cargo) to build from source"; exit 1; }
	$(PYTHON) -m venv .venv
	$(if $(UV),,$(BIN)/python -m pip install -q --upgrade pip)
	@mkdir -p .make && touch $@

.make/demo: .make/venv $(SOURCES)
	$(call install,$(BIN)) -e '.[demo]'
	@touch $@

.make/dev: .make/demo
	$(call install,$(BIN)) --group lint --group test --group bench --group examples 'maturin>=1.13,<2'
	@touch $@

.make/peers: .make/venv tests/conformance/requirements.txt bench/peers/requirements.txt $(SOURCES)
	$(PYTHON) -m venv .venv-peers
	$(if $(UV),,$(PEERS)/python -m pip install -q --upgrade pip)
	$(call install,$(PEERS)) --no-deps -r tests/conformance/requirements.txt
	$(call install,$(PEERS)) -r bench/peers/requirements.txt
	$(call install,$(PEERS)) --group test --group bench .
	@touch $@

demo: .make/demo  ## train a small model on rollouts that it samples itself; writes demo-output/
	$(BIN)/python -m rollmath demo --out $(OUT)

lint: .make/dev  ## ruff, mypy, stubtest, rustfmt, clippy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest rollmath._core
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

format: .make/dev  ## rewrite the sources in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	cargo fmt --all

test: lint  ## everything that should hold before a commit
	cargo test --locked
	$(BIN)/pytest $(PYTEST_FLAGS)

test-peers: .make/peers  ## the long form: conformance with other trainers' own functions
	$(PEERS)/python -m pytest tests/conformance -m peers

conformance: .make/peers  ## the same with the golden vectors; rewrites the table of docs/conformance.md
	$(PEERS)/python -m pytest tests/conformance tests/group/test_golden.py tests/temporal/test_golden.py \
		--write-conformance docs/conformance.md

bench: .make/peers wheel  ## all benchmarks; appends rows to bench/results/ (BENCH="-k groups" for a part)
	$(PEERS)/python -m bench $(BENCH)

bench-quick: .make/dev  ## small sizes: does every benchmark run, and do all outputs agree?
	$(BIN)/python -m bench --quick

wheel: .make/dev  ## build dist/*.whl and the sdist
	$(BIN)/maturin build --release --locked --sdist --out dist

clean:  ## remove environments and build output
	rm -rf .venv .venv-peers .make dist target demo-output python/rollmath/_core*.so
