# Every target works on a fresh machine with Python 3.11 or newer; nothing else need be installed.
PYTHON ?= python3
PORT ?= 8000
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet
export PORT

.PHONY: run test test-slow demo check bench lock clean help

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

run: $(VENV)/installed ## start the site on this machine (PORT=8000, DATA_DIR=var)
	@exec $(BIN)/python manage.py up --port $(PORT)

demo: $(VENV)/installed ## the main job in the terminal: ingest samples/, ask three questions
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && DATA_DIR="$$folder" $(BIN)/python manage.py demo

test: $(VENV)/installed-dev ## the whole test suite; what touches the database again on PostgreSQL where it is installed
	@sh tests/install-tools.sh
	$(BIN)/python -m pytest -n 2 --dist loadfile
	$(BIN)/python -m tests.on_postgresql

test-slow: $(VENV)/installed-dev ## the campaigns that take long
	$(BIN)/python -m pytest -m slow

check: $(VENV)/installed-dev ## lint, types, layers, migrations, deployment settings, security
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	DATA_DIR=$$(mktemp -d) $(BIN)/mypy .
	$(BIN)/lint-imports
	DATA_DIR=$$(mktemp -d) $(BIN)/python manage.py makemigrations --check --dry-run
	DATA_DIR=$$(mktemp -d) HTTPS=1 $(BIN)/python manage.py check --deploy --fail-level WARNING
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml .
	$(BIN)/python .ci/audit.py

bench: $(VENV)/installed-dev ## the benchmarks that need no GPU
	@for script in $(filter-out %_gpu.py,$(wildcard benchmarks/[a-z]*.py)); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

lock: $(VENV)/installed-dev ## write requirements*.txt from requirements*.in
	$(BIN)/python .ci/lock.py

clean: ## remove the virtual environment (never the data)
	rm -rf $(VENV)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "ragsite needs Python 3.11 or newer. Install it, or name it: make run PYTHON=python3.11"; exit 1; }
	@echo "Making a virtual environment in $(VENV) …"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "The virtual environment could not be made. On Debian and Ubuntu: apt install python3-venv"; exit 1; }

$(VENV)/installed: requirements.txt | $(VENV)/bin/python
	@echo "Installing the pinned packages, about 2 GB: a few minutes the first time …"
	@$(PIP) install -r requirements.txt || \
		{ echo "Installing failed: check the network and that the disk has 4 GB free, then run it again."; exit 1; }
	@touch $@

$(VENV)/installed-dev: requirements-dev.txt $(VENV)/installed
	@$(PIP) install -r requirements-dev.txt || \
		{ echo "Installing failed: check the network and that the disk has 4 GB free, then run it again."; exit 1; }
	@touch $@
