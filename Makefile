# `make test` and `make demo` do all of their set-up alone: Python >= 3.10, make and a package registry.
# No compiler and no GPU. Another interpreter: make PYTHON=python3.12 test

PYTHON ?= python3
VENV := .venv
VOT := .venv-vot
BASELINES := .venv-baselines
BIN := $(VENV)/bin
DOCS := .venv-docs
OUT ?= out/demo

# mypy sees the packages as they install: links to kernels/ and train/ beside the files of dcfnet_np/.
TYPES := build/types

.NOTPARALLEL:
.PHONY: help test demo lint format gradcheck proof parity equations docs notebooks vot vot-environment baselines ablation weights gpu clean distclean

help:
	@echo "make test       lint, types and tests"
	@echo "make demo       track a face in a real clip; files go to $(OUT)"
	@echo "make gradcheck  every gradient against finite differences"
	@echo "make lint       ruff and mypy       make format   rewrite with ruff"
	@echo "make proof      the slow tests      make parity   remake the golden boxes (needs torch)"
	@echo "make docs       the site, into build/docs    make equations  rewrite docs/learn/equations.md"
	@echo "make notebooks  run examples/ and keep the outputs"
	@echo "make vot        the VOT and GOT-10k toolkits run our tracker, in $(VOT)"
	@echo "make baselines  OpenCV's contrib trackers, in $(BASELINES); with DATA=DIR the table of the README"
	@echo "make ablation   DATA=DIR: the paper's ablations, by dcfnet eval, into $(ABLATION)"
	@echo "make weights    with DATA=DIR: train light and conv1 by the recipe default, three seeds each, and score them"
	@echo "make gpu        on a machine with a GPU: its tests and measurements, with PYTHON's own packages; downloads nothing"
	@echo "make clean      remove what was built; make distclean removes $(VENV), $(VOT), $(BASELINES) and $(DOCS) too"

test: lint docs $(VENV)/.cupy
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
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch
	$(BIN)/python -m pytest -m slow
	$(BIN)/python -m pytest -q tests/ops/test_recurrent.py tests/gradcheck/test_gradcheck_functions.py  # beside PyTorch
	OPENBLAS_NUM_THREADS=1 $(BIN)/dcfnet gradcheck --mutants --report benchmarks/results/gradcheck.json
	OPENBLAS_NUM_THREADS=1 DCFNET_INPUTS=long $(BIN)/python -m pytest -s tests/robustness/test_hard_input.py

parity: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch
	$(BIN)/python benchmarks/parity.py

# Sphinx has an environment of its own, so that its many packages meet none of the library's.
docs: $(DOCS)/.docs
	@rm -rf build/docs
	$(DOCS)/bin/sphinx-build --quiet --fail-on-warning --keep-going --builder html docs build/docs

equations: $(VENV)/.test
	$(BIN)/python tests/support/terms.py
	$(BIN)/python tests/support/homes.py

notebooks: $(VENV)/.test
	$(BIN)/python tests/benchmarks/test_notebooks.py

# vot-toolkit brings opencv-python, which overwrites every other build of OpenCV, and pins; so an environment of its own.
vot: vot-environment
	OPENBLAS_NUM_THREADS=1 $(VOT)/bin/python -m pytest tests/adapters/test_bridges_got10k.py tests/adapters/test_bridges_trax.py

vot-environment:
	@$(MAKE) --no-print-directory VENV=$(VOT) $(VOT)/.bridges

# The trackers of opencv-contrib-python: it and opencv-python overwrite each other, so an environment of its own.
# DATA: a folder of sequences; RELEASED: the authors' param.pth, for its row.
TABLE ?= out/baselines
baselines: $(BASELINES)/.ready
	OPENBLAS_NUM_THREADS=1 $(BASELINES)/bin/python -m pytest tests/evaluation/test_evaluation_baselines.py
	@if [ -n "$(DATA)" ]; then set -ex; mkdir -p $(TABLE); \
	  if [ -n "$(RELEASED)" ]; then $(BASELINES)/bin/dcfnet convert "$(RELEASED)" $(TABLE)/param.h5; \
	    released=,released=dcfnet:$(TABLE)/param.h5:pytorch; fi; \
	  $(BASELINES)/bin/dcfnet eval "$(DATA)" --workers 2 --attributes benchmarks/otb_attributes.json --out $(TABLE) \
	    --trackers dcfnet,dcfnet:conv1,csrt,kcf,mosse,hog-dcf,gray-dcf,identity$$released; \
	else echo "no DATA=DIR given: no table"; fi

$(BASELINES)/.ready: setup.py pyproject.toml
	$(PYTHON) -m venv $(BASELINES)
	$(BASELINES)/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[report]" pytest
	$(BASELINES)/bin/python -m pip uninstall --quiet --yes opencv-python
	$(BASELINES)/bin/python -m pip install --quiet --disable-pip-version-check opencv-contrib-python-headless
	@touch $@

# The paper's Tables 1 and 2 on a folder of sequences.
ABLATION ?= out/ablation
ablation: $(VENV)/.test
	@[ -n "$(DATA)" ] || { echo "name a folder of sequences: make ablation DATA=DIR"; exit 2; }
	OPENBLAS_NUM_THREADS=1 $(BIN)/dcfnet eval "$(DATA)" --preset default --out $(ABLATION) \
	  --trackers conv1=dcfnet:conv1,conv1-dilation=dcfnet:conv1-dilation,conv2=dcfnet:conv2,conv1-1s=dcfnet:conv1:default:num_scales=1,\
	conv1-5s=dcfnet:conv1:default:num_scales=5,conv1-7s=dcfnet:conv1:default:num_scales=7

# The recipe `default`, docs/reference/training.md: DATA has train/, validation/ and sequences/. A run that was cut goes on.
# OTHERS=released=dcfnet:FILE.h5:pytorch scores that too, to compare with.
TRAINED ?= out/weights
NETWORKS ?= light conv1
SEEDS ?= 0 1 2
weights: $(VENV)/.test
	@[ -n "$(DATA)" ] || { echo "name a folder with train/, validation/ and sequences/: make weights DATA=DIR"; exit 2; }
	@set -ex; mkdir -p $(TRAINED); trackers=$(OTHERS); \
	$(BIN)/dcfnet prepare "$(DATA)/train" --validation 0 --out $(TRAINED)/crops.h5; \
	for network in $(NETWORKS); do for seed in $(SEEDS); do run=$(TRAINED)/$$network-$$seed; \
	  trackers=$$trackers,$$network-$$seed=dcfnet:$$run/weights.h5; \
	  $(BIN)/dcfnet train $(TRAINED)/crops.h5 --out $$run --resume --arch $$network --seed $$seed $(RECIPE); \
	done; done; \
	OPENBLAS_NUM_THREADS=1 $(BIN)/dcfnet eval "$(DATA)/sequences" --workers 2 --trackers $${trackers#,} --out $(TRAINED)/scores; \
	OPENBLAS_NUM_THREADS=1 $(BIN)/dcfnet eval "$(DATA)/validation" --workers 2 --trackers $${trackers#,} --out $(TRAINED)/validation

# A part that fails does not hide the others; the exit code tells. It ends after GPU_SECONDS; tests and bench that hang
# leave time for the rest, what ignores SIGTERM is killed GPU_GRACE seconds later, and what has goals comes first.
# DCFNET_DATA may name a folder with sequences/David; DCFNET_COMMIT the commit, where there is no git.
RESULTS ?= benchmarks/results
GPU_SECONDS ?= 590
GPU_TEST_SECONDS ?= 270
GPU_BENCH_SECONDS ?= 90
GPU_GRACE ?= 8
SANITIZER := compute-sanitizer --error-exitcode 1 --tool
# Some tests of every kernel; each is slow under the sanitizer. DCFNET_NO_POOL: an array that ends where its memory ends.
SANITIZED := -q -m gpu $(addprefix tests/kernels/test_kernels_,$(addsuffix .py,conv tf32 lrn dft dcf crop peak)) \
  tests/train/test_train_device_step.py -k "gpu and \
  (9-channels or (3-channels and float32) or given or given_buffers or every_tile_size or (n-3 and float32) or sgd_step \
  or (bins0 and float32) or (response_loss and shape0) or to_the_bit or (map_peaks and shape0) or (move_targets and 25-default) \
  or (gather and float32))"

gpu:
	@failed=; end=$$(($$(date +%s) + $(GPU_SECONDS))); \
	part() { echo "== $$1"; shift; left=$$((end - $$(date +%s))); \
	  if [ $$left -lt 5 ]; then failed="$$failed [no time left for $$*]"; \
	  else timeout -k $(GPU_GRACE) $$left "$$@" || failed="$$failed [$$*]"; fi; }; \
	mkdir -p $(RESULTS); \
	part install $(PYTHON) -m pip install --quiet --no-index --no-deps --no-build-isolation -e .; \
	part compile $(PYTHON) benchmarks/gpu.py compile; \
	part tests timeout -k $(GPU_GRACE) $(GPU_TEST_SECONDS) $(PYTHON) -m pytest -q -m gpu --durations=5 --continue-on-collection-errors; \
	david=; if [ -d "$$DCFNET_DATA/sequences/David" ]; then david=$$DCFNET_DATA/sequences/David; \
	else echo "== David's frames: skipped, no DCFNET_DATA; made-up ones in their place"; fi; \
	part bench timeout -k $(GPU_GRACE) $(GPU_BENCH_SECONDS) $(PYTHON) -m dcfnet_np bench $${david:+"$$david"} --device cuda \
	  --json $(RESULTS)/gpu-bench.json; \
	part tracking $(PYTHON) benchmarks/gpu.py tracking $${david:+--frames "$$david"} --out $(RESULTS)/gpu-tracking.json; \
	part training $(PYTHON) benchmarks/gpu.py training --arch conv1 --out $(RESULTS)/gpu-training.json; \
	if command -v compute-sanitizer >/dev/null; then \
	  for tool in memcheck racecheck; do \
	    part $$tool env DCFNET_NO_POOL=1 $(SANITIZER) $$tool $(PYTHON) -m pytest $(SANITIZED); \
	  done; \
	else echo "== memcheck, racecheck: skipped, no compute-sanitizer here"; fi; \
	if [ -n "$$failed" ]; then echo "failed:$$failed"; exit 1; fi

clean:
	rm -rf build dist out docs/examples docs/_extra docs/reference/api *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path "./.venv*" -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV) $(VOT) $(BASELINES) $(DOCS)

# CuPy really installed, in an environment of its own, for tests/kernels/test_cupy_without_gpu.py.
$(VENV)/.cupy: $(VENV)/.test tests/support/cupy_environment.py $(shell find kernels dcfnet_np train -type f -not -name '*.pyc')
	@echo "Setting up $(VENV)/cupy with dcfnet_np[gpu12] ..."
	@$(BIN)/python tests/support/cupy_environment.py
	@touch $@

# --- the virtual environment: a stamp file for each set of packages, so that a second run is quick ---

define loadable_opencv
@$(1)/python -c "import cv2" 2>/dev/null || { \
  echo "OpenCV's desktop build does not load here (no libGL?); taking the headless one: no windows."; \
  $(1)/python -m pip uninstall --quiet --yes opencv-python opencv-python-headless; \
  $(1)/python -m pip install --quiet --disable-pip-version-check opencv-python-headless; \
  $(1)/python -c "import cv2"; }
endef

$(VENV)/.demo: EXTRAS := demo
$(VENV)/.test: EXTRAS := dev
$(VENV)/.bridges: EXTRAS := bridges

$(VENV)/.demo $(VENV)/.test $(VENV)/.bridges: setup.py pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "No $(PYTHON) found; name one: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "dcfnet_np needs Python 3.10 or newer, this is $$($(PYTHON) --version 2>&1);" \
	    "name another: make PYTHON=python3.12"; exit 1; }
	@echo "Setting up $(VENV) with dcfnet_np[$(EXTRAS)] ..."
	@$(PYTHON) -m venv $(VENV) || { echo "No virtual environment: is Python's venv module installed?"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$(EXTRAS)]"
	$(call loadable_opencv,$(BIN))
	@touch $@

$(DOCS)/.docs: setup.py pyproject.toml
	@echo "Setting up $(DOCS) with dcfnet_np[docs] ..."
	@$(PYTHON) -m venv $(DOCS) || { echo "No virtual environment: is Python's venv module installed?"; exit 1; }
	@$(DOCS)/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[docs]"
	$(call loadable_opencv,$(DOCS)/bin)
	@touch $@
