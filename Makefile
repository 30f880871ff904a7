# Two commands do everything: `make run` and `make test`. What they install lies in .venv and .node, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input --quiet

.PHONY: run test check bench retrieval packages lock clients clean

run: $(VENV)/.installed
	@$(BIN)/alg init --yes >/dev/null
	@$(BIN)/python examples/two_agents.py
	@$(BIN)/alg register

test: $(VENV)/.installed-dev
	@$(BIN)/python scripts/install_clients.py || echo "note: the client programs could not be installed; their tests are skipped"
	$(BIN)/python -m pytest --numprocesses auto $(ARGS)

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/python scripts/render_docs.py --check

bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/run.py $(ARGS)

retrieval: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/retrieval/run.py $(DATA) $(ARGS)

packages: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/compression/run.py $(DATA) $(ARGS)

lock:
	$(BIN)/uv pip compile pyproject.toml --quiet --group build --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --universal --python-version 3.11 --output-file requirements.txt
	$(BIN)/uv pip compile pyproject.toml --quiet --group dev --constraint requirements.txt --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --universal --python-version 3.11 --output-file requirements-dev.txt

clean:
	rm -rf $(VENV) .node dist build

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python requirements.txt pyproject.toml
	$(PIP) install --require-hashes --requirement requirements.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/bin/python requirements-dev.txt pyproject.toml
	$(PIP) install --require-hashes --requirement requirements-dev.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@ $(VENV)/.installed
