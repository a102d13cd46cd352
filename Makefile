# Needs Python 3.11 or newer with venv, and a network the first time. PYTHON=… chooses which Python.

PY := .venv/bin/python
# A checkout that has run the tests keeps their packages, so that `up` and `test` do not undo each other.
SET := $(if $(wildcard .venv/.dev),dev,local)
WORKERS ?= 2

.PHONY: help up test test-services check bench chaos ledgers requirements requirements-lock

help:
	@echo "make up            start Definable here (PORT, SANDBOX_PORT and STATE choose where)"
	@echo "make test          check the code and run every test, in a real browser too"
	@echo "make test-services run every test on Debian's PostgreSQL 15 with Redis, then with RabbitMQ"
	@echo "make check         lint, format, types of the signatures, templates"
	@echo "make bench         measure"
	@echo "make chaos         kill, freeze and cut off everything for half an hour, then count what must add up"
	@echo "make ledgers       hold platform credits and dollar caps against their models, for long: every night"
	@echo "make requirements  list the security requirements that tests prove"

up: .venv/.$(SET)
	@exec $(PY) -m definable.launcher

check: .venv/.dev
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@$(PY) -m djlint --lint --quiet templates

test: check
	@CHROMIUM=$$(.ci/chromium) && export CHROMIUM && exec $(PY) -m pytest -q -n $(WORKERS) --dist loadfile $(ARGS)

# The servers that a distribution ships instead of the packaged ones; twice the time of make test.
test-services: .venv/.dev
	@CHROMIUM=$$(.ci/chromium) && DEFINABLE_PG_BIN=$$(.ci/services) && export CHROMIUM DEFINABLE_PG_BIN && \
	for broker in redis rabbitmq; do \
		echo "PostgreSQL 15, broker: $$broker" && \
		BROKER=$$broker PREFER_SYSTEM=1 $(PY) -m pytest -q -n $(WORKERS) --dist loadfile $(ARGS) || exit 1; \
	done

bench: .venv/.dev
	@exec $(PY) -m bench $(ARGS)

# MINUTES and SEED choose how long and which; one that fails says how it is replayed.
chaos: .venv/.dev
	@$(PY) -m bench.chaos --flows $(or $(MINUTES),30) --seed $(or $(SEED),1)
	@$(PY) -m bench.chaos --calls 2000 --kill-every 20 --seed $(or $(SEED),1)
	@$(PY) -m bench.chaos --chats 100 --seed $(or $(SEED),1)

# make test makes few runs of these; RUNS and STEPS choose how many are made here.
ledgers: .venv/.dev
	@LEDGER_RUNS=$(or $(RUNS),500) LEDGER_STEPS=$(or $(STEPS),100) exec $(PY) -m pytest -q \
		tests/accounts/test_ledger_machine.py tests/integrations/test_caps_machine.py $(ARGS)

requirements: .venv/.dev
	@exec $(PY) -m tests.requirements

# The stamps say that .venv holds exactly what requirements/<name>.txt lists.
.venv/.local: requirements/local.txt requirements/boot.txt
	@requirements/install local

.venv/.dev: requirements/dev.txt requirements/boot.txt
	@requirements/install dev

# Newer than a week is too new: a poisoned release is usually found within days.
COMPILE := .boot/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	--exclude-newer "1 week" --upgrade

requirements-lock:
	@requirements/install boot
	$(COMPILE) pyproject.toml -o requirements/run.txt
	$(COMPILE) pyproject.toml --group embedded -o requirements/local.txt
	$(COMPILE) pyproject.toml --group embedded --group test --group bench --group check -o requirements/dev.txt
	$(COMPILE) requirements/boot.in -o requirements/boot.txt
