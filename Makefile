# `make demo` and `make test` set up all they need in .venv; a second run installs nothing.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DONE   := $(VENV)/done
PIP    := $(BIN)/python -m pip --disable-pip-version-check

# The parity tests' packages are large: CI installs them, a developer asks with TJIT_TEST_TORCH=1 or TJIT_TEST_TRITON=1.
TORCH  := $(if $(filter 1,$(TJIT_TEST_TORCH))$(filter true,$(CI)),$(DONE)/torch)
TRITON := $(if $(filter 1,$(TJIT_TEST_TRITON))$(filter true,$(CI)),$(DONE)/triton)

TESTS  ?= tests
PYTEST ?= -n 2

.PHONY: help demo test check format bench clean
.DELETE_ON_ERROR:

help:
	@echo 'make demo    trains, prints, exports and runs in C a digit classifier (examples/01_digits.py)'
	@echo 'make test    runs the tests; TESTS=tests/test_ops.py chooses, PYTEST="-n 0 -x" passes options'
	@echo 'make check   lint, layout and types'
	@echo 'make format  writes the layout that `make check` wants'
	@echo 'make bench   times tjit beside the peers that are installed'
	@echo 'make clean   removes what these made'

demo: $(DONE)/tjit
	$(BIN)/python examples/01_digits.py

test: $(DONE)/test $(TORCH) $(TRITON)
	$(BIN)/python -m pytest $(PYTEST) $(TESTS)

check: $(DONE)/test $(DONE)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: $(DONE)/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(DONE)/tjit
	$(BIN)/python -m benchmarks

# pyproject.toml is what decides what is installed: the steps run again when it changes.
$(DONE)/venv:
	@command -v $(PYTHON) >/dev/null || { echo 'tjit needs Python 3.11 or later, and there is no $(PYTHON) here' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("tjit needs Python 3.11 or later; \
	$(PYTHON) is %d.%d (choose another: make PYTHON=python3.12)" % v[:2])'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	echo '$(PYTHON) has no venv: on Debian, apt-get install python3-venv' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@mkdir -p $(DONE) && touch $@

$(DONE)/tjit: pyproject.toml | $(DONE)/venv
	$(PIP) install --quiet --editable .
	@# as pip does for a package that it copies: else the first call of the demo would wait for Python's compiler
	@$(BIN)/python -m compileall -q codegen passes tjit
	@touch $@

$(DONE)/test: pyproject.toml | $(DONE)/tjit
	$(PIP) install --quiet --editable '.[test]'
	@touch $@

$(DONE)/dev: pyproject.toml | $(DONE)/tjit
	$(PIP) install --quiet --editable '.[dev]'
	@touch $@

$(DONE)/torch: | $(DONE)/venv
	$(PIP) install --quiet 'torch==2.13.0'
	@touch $@

$(DONE)/triton: pyproject.toml | $(DONE)/tjit
	$(PIP) install --quiet --editable '.[gpu]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
