# Everything a developer and CI do. Needs Python 3.11 or later and make; the rest is installed into .venv.

PYTHON ?= python3
BIN := .venv/bin
MANAGE := $(BIN)/python manage.py
READY := .venv/.installed

# Tools import the settings without a stack beside them.
OFFLINE := CARILLON_OFFLINE=1 DEBUG=1
PRODUCTION := CARILLON_OFFLINE=1 DEBUG=0 HTTPS=1 ALLOWED_HOSTS=carillon.example.com \
	SECRET_KEY=long-enough-for-the-check-and-used-for-nothing-but-the-check-0123456789

# The Django project that the client is tested in.
SHOP := PYTHONPATH=.:clients/django SHOP_DATABASE_URL=sqlite://:memory:

.PHONY: run demo test thorough check bench chaos screenshots lock format

run: $(READY)
	@exec $(BIN)/python -m project.stack

demo: $(READY)
	@exec $(MANAGE) demo

# Two processes, each with its own servers. Neighbours stay together, because a module may share what it has started.
TESTS := $(BIN)/python -m pytest -n 2 --dist worksteal
test: $(READY)
	@$(TESTS)

# What says of a slow server what `make test` says of a quick one.
thorough: $(READY)
	@$(TESTS) -m thorough

# make bench ONLY=latency QUICK=1; python -m benchmarks --help has the sizes
bench: $(READY)
	@exec $(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(if $(ONLY),--only $(ONLY)) $(if $(EVENTS),--events $(EVENTS))

# make chaos SECONDS=900 SEED=7 ONLY=Redis
SECONDS ?= 900
chaos: $(READY)
	@exec $(BIN)/python -m tests.chaos --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only "$(ONLY)")

# Into docs/images, or where SCREENSHOTS says. Look at each afterwards.
SCREENSHOTS ?= docs/images
screenshots: $(READY)
	@SCREENSHOTS=$(SCREENSHOTS) $(BIN)/python -m pytest -q tests/browser/screenshots.py

# A stage says its name, what it has to say, and how long it took.
stage = @echo "== $(1)"; began=$$(date +%s); $(2) && echo "   $(1): $$(($$(date +%s) - began)) s"

check: $(READY)
	$(call stage,format,$(BIN)/ruff format --quiet --check .)
	$(call stage,lint,$(BIN)/ruff check --quiet .)
	$(call stage,types,$(OFFLINE) $(BIN)/mypy .)
	$(call stage,types of the client,$(SHOP) $(BIN)/mypy --config-file clients/django/pyproject.toml --cache-dir .mypy_cache/clients clients/django/carillon_outbox)
	$(call stage,import contracts,$(BIN)/lint-imports --no-logo)
	$(call stage,migrations,$(OFFLINE) $(BIN)/python -W "ignore:Got an error checking:RuntimeWarning" manage.py makemigrations --check --dry-run)
	$(call stage,deploy check,$(PRODUCTION) $(MANAGE) check --deploy --fail-level WARNING)
	$(call stage,OpenAPI,$(OFFLINE) $(MANAGE) spectacular --validate --fail-on-warn --file /dev/null)
	$(call stage,tests,$(TESTS))

format: $(READY)
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

# After a change of a requirements*.in: the whole resolved set, for every platform.
LOCK := uv pip compile --quiet --universal --no-header --python-version 3.11
lock: $(READY)
	@$(BIN)/$(LOCK) requirements.in --output-file requirements.txt
	@$(BIN)/$(LOCK) requirements-sql.in --output-file requirements-sql.txt
	@$(BIN)/$(LOCK) requirements-brokers.in --output-file requirements-brokers.txt
	@$(BIN)/$(LOCK) requirements-dev.in --output-file requirements-dev.txt

LOCKS := requirements.txt requirements-sql.txt requirements-brokers.txt requirements-dev.txt
$(READY): $(LOCKS)
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv==$$(sed -n 's/^uv==//p' requirements-dev.txt)"
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python $(LOCKS) \
		|| $(BIN)/python -m pip install --quiet $(LOCKS:%=-r %)  # knows pip's own index settings
	@touch $@
