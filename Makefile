# `make demo` and `make test` are all that is needed; both can be run again and again.
# PORT and FINETUNE_DATA_DIR in the environment move the site.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
# OpenAI's clients, each version in a venv of its own, for `make test-clients`.
CLIENTS := .clients
CLIENT_VERSIONS := 0.28.1 1.109.1 3.54.0
PIP := $(RUN) -m pip --disable-pip-version-check --quiet install -c constraints.txt

# Where this is set, each of the many processes of a test would compile the code anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo up test test-clients test-api-fuzz lint bench-main bench-data bench-train bench-api bench-base-model format clean

demo: $(VENV)/.ok
	@exec $(RUN) manage.py demo $(ARGS)

up: $(VENV)/.ok
	@exec $(RUN) manage.py up $(ARGS)

# What moves a site or its calls on this machine must not move the sites of tests.
FOREIGN := ALLOWED_HOSTS CSRF_TRUSTED_ORIGINS DEBUG FINETUNE_HUB_ENDPOINT HF_TOKEN HTTPS \
	LOG_LEVEL MAX_UPLOAD_BYTES PORT SECRET_KEY SITE_URL TIME_ZONE WORKERS \
	http_proxy https_proxy all_proxy no_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY
TEST := env $(addprefix -u ,$(FOREIGN)) $(RUN) -m pytest

# Files of tests three at a time, since many of them wait, in the order found: the
# browser's come last. Then those that run alone, of which only the files are opened.
# ARGS may choose tests of one part alone, and of the other pytest says with 5 that there
# are none.
ALONE = $$(grep -rl --include='*.py' 'mark\.alone' tests)
test: $(VENV)/.test-ok
	$(TEST) -n 3 --dist loadfile --no-loadscope-reorder -m "not alone" $(ARGS) || test $$? = 5
	$(TEST) -m alone $(or $(ARGS),$(ALONE)) || test $$? = 5

test-clients: $(VENV)/.test-ok $(CLIENT_VERSIONS:%=$(CLIENTS)/%/.ok)
	$(RUN) -m tests.clients $(CLIENTS) $(CLIENT_VERSIONS)

# BUDGET=short asks some hundred times instead of some thousand.
test-api-fuzz: $(VENV)/.test-ok
	$(RUN) -m tests.fuzz $(BUDGET)

lint: $(VENV)/.test-ok
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports
	FINETUNE_DATA_DIR=$$(mktemp -d) $(RUN) manage.py makemigrations --check --dry-run

# Figures go to docs/figures.md.
bench-main: $(VENV)/.test-ok
	$(RUN) -m tests.bench.main_job

bench-data: $(VENV)/.test-ok
	$(RUN) -m tests.bench.data_path

# The first time it installs TRL beside the project.
bench-train: $(VENV)/.test-ok
	$(RUN) -m tests.bench.train

# 50 clients of the API at once. SECONDS_LONG=20 makes it shorter.
bench-api: $(VENV)/.test-ok
	$(RUN) -m tests.bench.api $(SECONDS_LONG)

# The model that ships. TEXTS=folder has what to measure it by (heldout-*.txt), and
# OTHER=folder a model to compare it with. ARGS='--parts held-out' measures that alone.
bench-base-model: $(VENV)/.test-ok
	$(RUN) -m tests.bench.base_model $(if $(OTHER),--other '$(OTHER)') \
		$(if $(TEXTS),--texts '$(TEXTS)') $(ARGS)

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

$(CLIENTS)/%/.ok:
	@echo "Installing openai $*."
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip --disable-pip-version-check --quiet install openai==$*
	@touch $@

clean:
	rm -rf $(VENV) $(CLIENTS) .pytest_cache .mypy_cache .ruff_cache
