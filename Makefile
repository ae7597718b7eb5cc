# make start   an environment, a workspace, the first module, and what to type next
# make test    everything that is checked: lint, types, proofs of the course, tests
PYTHON    ?= python3
VENV      ?= .venv
WORKSPACE ?= ../my-torch
BIN       := $(VENV)/bin
SOURCES   := pyproject.toml

.PHONY: help start test lint proofs journey benchmark clean

help:
	@sed -n 's/^# //p' Makefile

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: $(PYTHON) is older than Python 3.11"; \
	  echo "Next: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 3; }
	@echo "Making the environment $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --upgrade pip

$(VENV)/.learner: $(BIN)/python $(SOURCES)
	@echo "Installing TinyTorch with JupyterLab (a minute or two) ..."
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -e '.[jupyter,plots]'
	@touch $@

$(VENV)/.developer: $(BIN)/python $(SOURCES)
	@echo "Installing the test tools (a few minutes the first time) ..."
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -e '.[dev]'
	@touch $@

start: $(VENV)/.learner
	@$(BIN)/tito init $(WORKSPACE) > $(VENV)/start.log
	@cd $(WORKSPACE) && $(abspath $(BIN))/tito module start 01 >> $(abspath $(VENV))/start.log
	@sed '/^Next:/d' $(VENV)/start.log
	@next=$$(cd $(WORKSPACE) && $(abspath $(BIN))/tito | sed -n 's/^Next: //p'); \
	  echo "Next: source $(abspath $(BIN))/activate && cd $(abspath $(WORKSPACE)) && $$next"
	@echo "      and in a second terminal, after the same source and cd: tito notebook open"

lint: $(VENV)/.developer
	$(BIN)/ruff check .
	$(BIN)/mypy

proofs: $(VENV)/.developer
	$(BIN)/tito dev check

test: lint proofs
	OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

journey: $(VENV)/.developer
	$(BIN)/tito dev journey

benchmark: $(VENV)/.developer
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
