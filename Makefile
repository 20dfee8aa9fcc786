# `make test` and `make demo` do all of their set-up alone: Python >= 3.10, make and a package registry.
# No compiler and no GPU. Another interpreter: make PYTHON=python3.12 test

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= out/demo

# mypy sees the packages as they install: links to kernels/ and train/ beside the files of dcfnet_np/.
TYPES := build/types

.NOTPARALLEL:
.PHONY: help test demo lint format gradcheck proof parity gpu clean distclean

help:
	@echo "make test       lint, types and tests"
	@echo "make demo       track a face in a real clip; files go to $(OUT)"
	@echo "make gradcheck  every gradient against finite differences"
	@echo "make lint       ruff and mypy       make format   rewrite with ruff"
	@echo "make proof      the slow tests      make parity   remake the golden boxes (needs torch)"
	@echo "make gpu        on a machine with a GPU: its tests and measurements, with PYTHON's own packages; downloads nothing"
	@echo "make clean      remove what was built; make distclean removes $(VENV) too"

test: lint
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

demo: $(VENV)/.demo
	$(BIN)/dcfnet demo --out $(OUT)

gradcheck: $(VENV)/.demo
	$(BIN)/dcfnet gradcheck

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@rm -rf $(TYPES) && mkdir -p $(TYPES)/dcfnet_np
	@ln -s $(CURDIR)/dcfnet_np/* $(CURDIR)/kernels $(CURDIR)/train $(TYPES)/dcfnet_np/
	MYPYPATH=$(TYPES) $(BIN)/mypy -p dcfnet_np

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

proof: $(VENV)/.test
	$(BIN)/python -m pytest -m slow
	OPENBLAS_NUM_THREADS=1 $(BIN)/dcfnet gradcheck --mutants --report benchmarks/results/gradcheck.json

parity: $(VENV)/.bench
	$(BIN)/python benchmarks/parity.py

# A part that fails does not hide the others; the exit code tells. DCFNET_DATA may name a folder with sequences/David.
RESULTS ?= benchmarks/results
SANITIZER := compute-sanitizer --error-exitcode 1 --tool

gpu:
	@failed=; part() { echo "== $$1"; shift; "$$@" || failed="$$failed [$$*]"; }; \
	part install $(PYTHON) -m pip install --quiet --no-index --no-deps --no-build-isolation -e .; \
	part tests $(PYTHON) -m pytest -q -m gpu; \
	if command -v compute-sanitizer >/dev/null; then \
	  part memcheck timeout 120 $(SANITIZER) memcheck $(PYTHON) -m pytest -q -m gpu tests/test_kernels_conv.py \
	    tests/test_kernels_dft.py -k "(3-channels or given or empty_batch) and gpu"; \
	  part racecheck timeout 120 $(SANITIZER) racecheck $(PYTHON) -m pytest -q -m gpu tests/test_kernels_conv.py \
	    tests/test_kernels_dft.py -k "(given or empty_batch) and gpu"; \
	else echo "== memcheck, racecheck: skipped, no compute-sanitizer here"; fi; \
	part kernels $(PYTHON) benchmarks/gpu_kernels.py --quick --json $(RESULTS)/gpu-kernels.json; \
	weights=$$($(PYTHON) -c "from dcfnet_np import weights; print('light' if 'light' in weights.names() else 'random:light')"); \
	frames=; if [ -d "$$DCFNET_DATA/sequences/David" ]; then frames="--frames $$DCFNET_DATA/sequences/David"; fi; \
	part tracking $(PYTHON) benchmarks/gpu_tracking.py --weights $$weights $$frames --out $(RESULTS)/gpu-tracking.json; \
	part training $(PYTHON) benchmarks/gpu_training.py --out $(RESULTS)/gpu-training.json; \
	if [ -n "$$failed" ]; then echo "failed:$$failed"; exit 1; fi

clean:
	rm -rf build dist out *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path "./$(VENV)/*" -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)

# --- the virtual environment: a stamp file for each set of packages, so that a second run is quick ---

$(VENV)/.demo: EXTRAS := demo
$(VENV)/.test: EXTRAS := test,demo
$(VENV)/.bench: EXTRAS := test,demo,bench

$(VENV)/.demo $(VENV)/.test $(VENV)/.bench: setup.py pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "No $(PYTHON) found; name one: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "dcfnet_np needs Python 3.10 or newer, this is $$($(PYTHON) --version 2>&1);" \
	    "name another: make PYTHON=python3.12"; exit 1; }
	@echo "Setting up $(VENV) with dcfnet_np[$(EXTRAS)] ..."
	@$(PYTHON) -m venv $(VENV) || { echo "No virtual environment: is Python's venv module installed?"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$(EXTRAS)]"
	@$(BIN)/python -c "import cv2" 2>/dev/null || { \
	  echo "OpenCV's desktop build does not load here (no libGL?); taking the headless one: no windows."; \
	  $(BIN)/python -m pip uninstall --quiet --yes opencv-python opencv-python-headless; \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check opencv-python-headless; \
	  $(BIN)/python -c "import cv2"; }
	@touch $@
