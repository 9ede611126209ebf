# Everything a newcomer or CI calls. Each target sets up what it needs.
#
#   make demo         a first answer on this machine
#   make test         the tests that need nothing but Python
#   make check        format, lint and types
#   make reference    comparisons with transformers and llama.cpp's own tools (downloads torch)
#   make integration  tests against real servers
#   make peers        other runtimes beside us, on the folder MODEL (downloads torch)
#   make bench        how fast and how good MODEL is here, with plots; the demo model unless given
#   make docs         the documentation as a site in .site/

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
REFERENCE := .reference
LLAMA_CPP_PYTHON := 0.3.36
SDIST := $(REFERENCE)/llama_cpp_python-$(LLAMA_CPP_PYTHON)
TOOLS := $(REFERENCE)/build
JOBS := $(shell getconf _NPROCESSORS_ONLN)

.PHONY: setup demo test check format reference peers bench integration docs clean

setup: $(VENV)/.ready

# llama-cpp-python is compiled here: five minutes on two cores, seconds from pip's cache.
$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "error: expected Python 3.11 or newer, got $$($(PYTHON) --version)"; exit 1; }
	@command -v cmake >/dev/null && command -v c++ >/dev/null \
	  || { echo "error: llama.cpp is compiled here: install cmake and a C++ compiler"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@

demo: setup
	$(BIN)/python -m models.demo.run

test: setup
	$(BIN)/pytest

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The oracles: transformers, and llama.cpp's converter and tools from the sdist of the very
# llama-cpp-python that we run on.
reference: setup $(VENV)/.reference-ready $(TOOLS)/.ready
	MILOCO_EDGE_SDIST=$(abspath $(SDIST)) MILOCO_EDGE_LLAMA_TOOLS=$(abspath $(TOOLS))/bin \
	  $(BIN)/pytest -m reference -s

$(VENV)/.reference-ready: $(VENV)/.ready
	$(BIN)/pip install --quiet --editable '.[reference]'
	@touch $@

$(SDIST)/PKG-INFO: | $(VENV)/.ready
	mkdir -p $(REFERENCE)
	$(BIN)/pip download --quiet --no-deps --no-binary llama-cpp-python \
	  --dest $(REFERENCE) llama-cpp-python==$(LLAMA_CPP_PYTHON)
	tar -xzf $(SDIST).tar.gz -C $(REFERENCE)

$(TOOLS)/.ready: $(SDIST)/PKG-INFO
	cmake -S $(SDIST)/vendor/llama.cpp -B $(TOOLS) -DCMAKE_BUILD_TYPE=Release \
	  -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_OPENSSL=OFF
	cmake --build $(TOOLS) --parallel $(JOBS) --target llama-mtmd-cli llama-quantize
	@touch $@

# The same questions to all of them, in turns; OpenVINO needs an environment of its own.
peers: setup $(VENV)/.reference-ready $(TOOLS)/.peers-ready
	@test -n "$(MODEL)" || { echo "error: expected MODEL=folder with a pair"; exit 1; }
	$(BIN)/python -m benchmarks.peers "$(MODEL)" --tools $(TOOLS)/bin \
	  --example-server $(SDIST)/examples/server/server.py $(PEERS) --out $(REFERENCE)/peers.json

# Its page is for browsers, and would be downloaded.
$(TOOLS)/.peers-ready: $(TOOLS)/.ready
	cmake -S $(SDIST)/vendor/llama.cpp -B $(TOOLS) -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF
	cmake --build $(TOOLS) --parallel $(JOBS) --target llama-server llama-bench
	@touch $@

# Leave the machine alone meanwhile. DEADLINE is what a window may take, in seconds.
bench: MEASURED := $(REFERENCE)/bench
bench: WHAT = $(or $(MODEL),demo)
bench: DEADLINE ?= 5
bench: setup
	mkdir -p $(MEASURED)
	$(BIN)/miloco-edge bench "$(WHAT)" --deadline $(DEADLINE) --capacity --roofline \
	  --out $(MEASURED)/bench.json --markdown $(MEASURED)/bench.md --plots $(MEASURED)
	$(BIN)/python -m benchmarks.deadlines "$(WHAT)" --deadline $(DEADLINE) \
	  --out $(MEASURED)/deadlines.json
	$(BIN)/python -m benchmarks.overlap "$(WHAT)" \
	  --out $(MEASURED)/overlap.json --markdown $(MEASURED)/overlap.md
	$(BIN)/python -m models.demo.manifest $(MEASURED)/test --split test --count 300
	$(BIN)/python -m benchmarks.economy "$(WHAT)" --manifest $(MEASURED)/test/test.jsonl \
	  --out $(MEASURED)/economy.json --markdown $(MEASURED)/economy.md

integration: setup
	$(BIN)/pytest -m integration

# From stdin, so that its paths start here: mkdocs wants no configuration inside docs/.
docs: setup $(VENV)/.docs-ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --config-file - < docs/mkdocs.yml

$(VENV)/.docs-ready: $(VENV)/.ready
	$(BIN)/pip install --quiet --editable '.[docs]'
	@touch $@

clean:
	rm -rf $(VENV) $(REFERENCE) .demo .site
