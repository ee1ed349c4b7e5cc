# The two commands are `make run` and `make test`; each does its own set-up. `make help` lists the rest.
.DEFAULT_GOAL := help
.PHONY: help run demo chaos simulate mutants kills cents test check bench down
SHELL := /bin/sh

# The first Python that is new enough, unless PYTHON says which.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
REQUIREMENTS := requirements/base.txt requirements/dev.txt
STAMP := .installed-$(shell cat $(REQUIREMENTS) | cksum | cut -d' ' -f1)
# Only `make bench` needs these: what the product is compared with.
PEERS := requirements/bench.txt
PEERS_STAMP := .peers-$(shell cat $(PEERS) | cksum | cut -d' ' -f1)
BIN := .venv/bin
BENCH ?=
CHARGES ?= 300000
TESTS ?=
WORKERS ?= auto
MINUTES ?= 10
SEED ?=
SEEDS ?= 1000
SEED_BASE ?= 0
STEPS ?=
ONLY ?=
TIMES ?=
RANDOM ?=
CRASHES ?=

# $(call step,what,command): one line before, one line after with its seconds.
step = @printf '== %s\n' '$(1)'; began=$$(date +%s); ( $(2) ) || { code=$$?; \
	printf '== failed: %s (exit code %s)\n' '$(1)' $$code; exit $$code; }; \
	printf '== %s: %s s\n' '$(1)' $$(( $$(date +%s) - began ))

# What a production process is given; the addresses lead nowhere, since the checks look at settings alone.
PRODUCTION_LIKE := env ENVIRONMENT=production ALLOWED_HOSTS=checkout.example \
	SECRET_KEY=production-like-0123456789-abcdefghijklmnopqrstuvwxyz-ABCDEF \
	DATABASE_URL=postgresql://checkout:none@127.0.0.1:1/checkout KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:1 \
	PROCESSOR_URL=https://processor.example PROCESSOR_API_KEY=none PROCESSOR_WEBHOOK_SECRET=none

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16
	@echo
	@echo '  make test TESTS=tests/unit    some of the tests      make bench BENCH=relay    one of the benches'

run: .venv/$(STAMP)  ## start everything, show the demonstration, stay up until Ctrl-C
	@$(BIN)/python -m devstack up

demo: .venv/$(STAMP)  ## the demonstration from nothing; exit code 0 only if its proof holds
	$(call step,demonstration,$(BIN)/python -m devstack demo)

chaos: .venv/$(STAMP)  ## faults under load for MINUTES=10; exit code 0 only if nothing was lost or doubled
	$(call step,chaos for $(MINUTES) minutes,$(BIN)/python -m chaos --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)))

simulate: .venv/$(STAMP)  ## SEEDS=1000 seeded schedules of faults from SEED_BASE=0 on; SEED=n replays one
	$(call step,simulation,$(BIN)/python -m tests.simulation $(if $(STEPS),--steps $(STEPS)) \
		$(if $(SEED),--seed $(SEED),--seeds $(SEEDS) --base $(SEED_BASE) --keep))

mutants: .venv/$(STAMP)  ## payment bugs put in one at a time, all or ONLY=name; exit code 0 only if each is found
	$(call step,mutants,$(BIN)/python -m tests.mutants $(ONLY) \
		$(if $(filter command environment,$(firstword $(origin SEEDS))),--seeds $(SEEDS)))

kills: .venv/$(STAMP)  ## processes killed TIMES=100 times at each failpoint, RANDOM=0 times anywhere; CRASHES=0 of PostgreSQL
	$(call step,kills,$(BIN)/python -m tests.kills $(if $(TIMES),--times $(TIMES)) $(if $(RANDOM),--random $(RANDOM)) \
		$(if $(CRASHES),--crashes $(CRASHES)) $(if $(ONLY),--only $(ONLY)))

cents: .venv/$(STAMP)  ## TIMES=10000 cents moved by raw SQL; exit code 0 only if each is named, and nothing else
	$(call step,cents,$(BIN)/python -m tests.cents $(if $(TIMES),--times $(TIMES)))

test: .venv/$(STAMP)  ## all tests, in two workers where there are two cores; WORKERS=0 for none
	$(call step,tests,$(BIN)/python -m pytest $(if $(TESTS),$(TESTS),-n $(WORKERS)))

check: .venv/$(STAMP)  ## format, lint, layers, types, migrations, deployment settings
	$(call step,format,$(BIN)/ruff format --check .)
	$(call step,lint,$(BIN)/ruff check .)
	$(call step,layers,$(BIN)/lint-imports)
	$(call step,types,$(PRODUCTION_LIKE) $(BIN)/mypy)
	$(call step,migrations,$(PRODUCTION_LIKE) $(BIN)/python -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run)
	$(call step,deployment settings,$(PRODUCTION_LIKE) $(BIN)/python manage.py check --deploy --fail-level WARNING)

bench: .venv/$(STAMP) .venv/$(PEERS_STAMP)  ## all measurements, or one with BENCH=name; some load CHARGES=300000
	$(call step,bench $(BENCH),for file in $(if $(BENCH),bench/$(BENCH).py,bench/[a-z]*.py); do \
		BENCH_CHARGES=$(CHARGES) $(BIN)/python -m bench.$$(basename $$file .py) || exit $$?; done)

down:  ## stop what `make run` started
	@$(BIN)/python -m devstack down

.venv/$(STAMP): $(REQUIREMENTS)
	@if [ -z '$(PYTHON)' ]; then echo 'error: Python 3.11 or newer is missing; install one, or name it: make PYTHON=/path/to/python3.11' >&2; exit 1; fi
	@$(PYTHON) -m devstack.install $(STAMP)

.venv/$(PEERS_STAMP): $(PEERS) .venv/$(STAMP)
	$(call step,peers of the benches,$(BIN)/python -m pip install --quiet --require-hashes -r $(PEERS))
	@rm -f .venv/.peers-*; touch $@
