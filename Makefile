# `make demo` and `make test` are all that is needed; both can be run again and again.
# PORT and FINETUNE_DATA_DIR in the environment move the site.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --disable-pip-version-check --quiet install -c constraints.txt

.PHONY: demo up test lint bench-main bench-data bench-train format clean

demo: $(VENV)/.ok
	@exec $(RUN) manage.py demo $(ARGS)

up: $(VENV)/.ok
	@exec $(RUN) manage.py up $(ARGS)

test: $(VENV)/.test-ok
	$(RUN) -m pytest $(ARGS)

lint: $(VENV)/.test-ok
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	FINETUNE_DATA_DIR=$$(mktemp -d) $(RUN) manage.py makemigrations --check --dry-run

# Figures go to docs/figures.md.
bench-main: $(VENV)/.test-ok
	$(RUN) -m tests.bench.main_job

bench-data: $(VENV)/.test-ok
	$(RUN) -m tests.bench.data_path

# The first time it installs TRL beside the project.
bench-train: $(VENV)/.test-ok
	$(RUN) -m tests.bench.train

format: $(VENV)/.test-ok
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

# Without a stamp nothing is known to be complete; with one, pip is not called at all
# and no internet is needed.
$(VENV)/.ok: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.11 ...")'
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	@echo "Installing torch, then the rest; this takes a minute or two."
	@$(PIP) torch
	@$(PIP) -e .
	@touch $@

$(VENV)/.test-ok: $(VENV)/.ok
	@echo "Installing the test tools."
	@$(PIP) -e '.[dev]'
	@sh tests/install_browser.sh $(RUN)
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
