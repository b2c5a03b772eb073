# make run        start everything for a trial on http://127.0.0.1:8080 (PORT=8090 for another port)
# make test-fast  the tests that need no other servers than Redis: minutes
# make test       install what the tests need, lint, and run all tests but the long ones
# make test-long  soak, long runs of faults, and many examples of each law: an hour and more
# make test-all   make test-fast on each Python from 3.11 to 3.13 that is found
# make lint       ruff, mypy and hadolint
# make format     format the code
# make bench      measure the hot paths, as ratios to a floor in the same run
# make dist       build the wheel and the source distribution into dist/
# make image      build the container image
# make clean      remove what the others made, but no data
# The first that is new enough; `make PYTHON=...` names another.
PYTHON ?= $(shell for one in python3 python3.13 python3.12 python3.11; do \
    $$one -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$one && break; done || echo python3)
PORT ?= 8080
DATA ?= fedgate-data
EXAMPLES ?= 30000
ROUNDS ?= 20
VENV ?= .venv
BIN := $(VENV)/bin
# Dependencies come as wheels alone: no compiler, no headers.
PIP := $(BIN)/python -m pip --disable-pip-version-check install --only-binary :all:
# Identity providers of other makers and the AWS SDK for JavaScript, as tests use them.
NODE_PACKAGES := samlp@8 express@4 oidc-provider@9 oauth2-mock-server@8 @aws-sdk/credential-providers@3 \
    @aws-sdk/client-sts@3 @aws-sdk/client-s3@3 @aws-sdk/s3-request-presigner@3 @aws-sdk/lib-storage@3
# A worker keeps neighboring tests, and so the servers that they share.
# A failure is shown when it happens, so that a run that is cut off still shows it.
PYTEST := $(BIN)/python -m pytest -n auto --dist worksteal --instafail --durations=40 --durations-min=5
# The least percentage of lines and branches of iam and sts that tests must reach; a whole run reached 99.
COVERED := 98
PYTHONS := 3.11 3.12 3.13

.PHONY: help install run test test-servers test-fast test-long test-all lint format bench laws dist image clean

help:
	@sed -n 's/^# make/make/p' Makefile

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo 'Installing Fedgate and what it needs into $(VENV); this is done once, and takes a minute or two.'
	$(PIP) --editable '.[demo]'
	@touch $@

$(VENV)/.test: pyproject.toml $(VENV)/.installed
	$(PIP) --editable '.[demo,postgresql,test]'
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	    || { echo 'Fedgate needs Python 3.11 or newer: make PYTHON=/path/to/python3.11' >&2; exit 1; }
	@echo 'Making a virtual environment in $(VENV).'
	@$(PYTHON) -m venv $(VENV) \
	    || { rm -rf $(VENV); echo 'On Debian and Ubuntu: apt-get install python3-venv' >&2; exit 1; }

run: install
	@exec $(BIN)/fedgate demo --data '$(DATA)' --bind '127.0.0.1:$(PORT)'

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile

format: $(VENV)/.test
	$(BIN)/ruff format .

$(VENV)/.proxies: pyproject.toml $(VENV)/.test
	$(PIP) --editable '.[proxies]'
	@touch $@

test-servers: $(VENV)/.test $(VENV)/.proxies
	tests/deploy/install-servers
	$(BIN)/python tests/deploy/install_aws_cli.py .testbed
	[ -d .testbed/node/node_modules/@aws-sdk/client-s3 ] || npm install --prefix .testbed/node --silent --no-audit --no-fund $(NODE_PACKAGES)

test: lint test-servers
	$(PYTEST) -m 'not long' --cov=iam --cov=sts --cov-report= --cov-fail-under=$(COVERED)
	$(BIN)/python -m coverage report --include='iam/policy/*' --show-missing --skip-covered --fail-under=100

test-fast: $(VENV)/.test
	$(PYTEST) -m 'not server and not long'

test-long: test-servers laws
	$(PYTEST) -m long

# Each Python has an environment of its own, beside the one for daily work.
test-all:
	@found=; for version in $(PYTHONS); do \
	    python=$$(command -v python$$version || ls $${PYENV_ROOT:-$$HOME/.pyenv}/versions/$$version.*/bin/python 2>/dev/null | tail -n 1); \
	    if [ -z "$$python" ]; then echo "Python $$version: not found"; continue; fi; \
	    found=yes; echo "Python $$version: $$python"; \
	    $(MAKE) --no-print-directory VENV=.venvs/$$version PYTHON=$$python test-fast || exit 1; \
	done; [ -n "$$found" ]

dist: $(VENV)/.test
	rm -rf dist build
	$(BIN)/python -m build --no-isolation --outdir dist

$(VENV)/.bench: pyproject.toml $(VENV)/.test
	$(PIP) --editable '.[bench]'
	@touch $@

bench: $(VENV)/.bench
	$(BIN)/python bench/policy.py
	$(BIN)/python bench/run.py
	$(BIN)/python bench/saml.py
	$(BIN)/python bench/pages.py

# The laws of the policy language, with as many examples as a night has time for; then all laws, each time with others.
laws: $(VENV)/.test
	FEDGATE_EXAMPLES=$(EXAMPLES) $(PYTEST) tests/iam/policy/test_policy_laws.py
	for round in $$(seq $(ROUNDS)); do FEDGATE_EXAMPLES=400 $(PYTEST) -m 'hypothesis and not server' || exit 1; done

image:
	@command -v buildah >/dev/null && exec buildah bud --tag fedgate . || exec docker build --tag fedgate .

clean:
	rm -rf $(VENV) .venvs build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
