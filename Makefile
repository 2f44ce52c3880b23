# `make help` lists the targets. Everything happens in .venv (and .venv-peers for the long tests).
PYTHON ?= python3
OUT ?= demo-output
EVIDENCE ?= all
BIN := .venv/bin
PEERS := .venv-peers/bin
# The oldest Triton that is still found beside a current torch, in a folder that goes before the environment's own. Its
# interpreter needs a NumPy below 2.4.
OLD_TRITON := .triton36
UV := $(shell command -v uv 2>/dev/null)
# uv is used where it is installed, because it is faster; pip does the same.
install = $(if $(UV),uv pip install -q --python $(1)/python,$(1)/python -m pip install -q)
SOURCES := $(shell find rust kernels -name '*.rs' -o -name '*.py' -o -name Cargo.toml) Cargo.toml Cargo.lock pyproject.toml
PYTEST_FLAGS ?= -q -m "not peers" -n 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help demo test test-peers kernels-aot test-old-triton conformance bench bench-quick bench-gpu evidence evidence-quick lint format docs wheel clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

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

.make/old-triton: .make/venv
	rm -rf $(OLD_TRITON)
	$(call install,$(BIN)) --target $(OLD_TRITON) 'triton==3.6.0' 'numpy<2.4'
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

test-peers: .make/peers kernels-aot test-old-triton evidence-quick  ## the long form: other trainers' own functions, all GPUs, an old Triton
	$(PEERS)/python -m pytest tests/conformance -m peers

kernels-aot: .make/dev  ## compile the Triton kernels for all GPUs and hold their machine code to its limits (AOT="--write")
	$(BIN)/python -m bench.aot $(AOT)

test-old-triton: .make/dev .make/old-triton  ## the Triton kernels under Triton 3.6
	PYTHONPATH=$(CURDIR)/$(OLD_TRITON) $(BIN)/python -m bench.aot $(AOT)
	PYTHONPATH=$(CURDIR)/$(OLD_TRITON) $(BIN)/pytest -q -m "not peers" -W 'ignore:Conversion of an array:DeprecationWarning' \
		tests/kernels $(wildcard tests/*/test_*backends.py) --ignore tests/kernels/test_aot.py

conformance: .make/peers  ## the same with the golden vectors; rewrites the table of docs/conformance.md
	$(PEERS)/python -m pytest tests/conformance tests/group/test_golden.py tests/temporal/test_golden.py \
		--write-conformance docs/conformance.md

bench: .make/peers wheel  ## all benchmarks; appends rows to bench/results/ (BENCH="-k groups" for a part)
	$(PEERS)/python -m bench $(BENCH)

bench-quick: .make/dev  ## small sizes: does every benchmark run, and do all outputs agree?
	$(BIN)/python -m bench --quick

bench-gpu:  ## on a machine with a GPU and rollmath installed: check against float64, time, compare, judge (GPU="--only rows")
	$(PYTHON) -m bench.gpu $(GPU)

evidence: .make/dev  ## the runs of docs/evidence.md that bench/results/training lacks, its tables and pictures (EVIDENCE="trees --task sums")
	$(BIN)/python -m bench.training run $(EVIDENCE)
	$(BIN)/python -m bench.training page

evidence-quick: .make/dev  ## three methods, two seeds: does the direction of docs/evidence.md come out again?
	$(BIN)/python -m bench.training quick

wheel: .make/dev  ## build dist/*.whl and the sdist
	$(BIN)/maturin build --release --locked --sdist --out dist

clean:  ## remove environments and build output
	rm -rf .venv .venv-peers $(OLD_TRITON) .make dist target demo-output python/rollmath/_core*.so
