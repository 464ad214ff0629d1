# Everything runs in .venv, which the first target makes. PYTHON picks the interpreter (3.11 or newer).
PYTHON ?= python3
BIN := .venv/bin
# Processes that run tests side by side, one thread each.
WORKERS ?= 2

.PHONY: demo test check bench golden docs results clean

demo: .venv/installed ## map ResNet8 on CIFAR-10 with at most 2 pp of accuracy loss one day after programming
	$(BIN)/lionheart map cifar10/resnet8 --max-drop 2 --set search.report_times=1s,1d,1y

# Files run in the order of their names: pytest-xdist would begin those of few tests last, which take minutes each.
test: check .venv/aihwkit ## all checks, then all tests
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder

check: .venv/installed ## format, lint, types, imports between packages
	$(BIN)/ruff format --check -q src tests benchmarks docs
	$(BIN)/ruff check -q src tests benchmarks docs
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/installed ## speed ratios against the same network in floating point, and ALPINE's ratios
	$(BIN)/python benchmarks/speed/performance.py
	$(BIN)/python benchmarks/papers/alpine_ratios.py

golden: .venv/installed ## write tests/golden/hashes.json anew; for a change that is meant to move numbers
	$(BIN)/python tests/golden/jobs.py --write

docs: .venv/installed ## write docs/reference/settings.md and docs/reference from the code
	$(BIN)/python docs/make_settings.py
	$(BIN)/python docs/make_reference.py

results: .venv/installed ## the tables in docs/results/networks, hours; or ROW=cifar10/resnet20@1, NETWORK=resnet20, AGAIN=1, RENDER=1, DEVICE=cuda
	$(BIN)/python benchmarks/networks/results.py $(ROW) $(if $(NETWORK),--network $(NETWORK)) $(if $(AGAIN),--again) $(if $(RENDER),--render) $(if $(DEVICE),--device $(DEVICE))

clean: ## remove what was made here; the data cache and runs/ stay
	rm -rf .venv dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/installed: pyproject.toml constraints.txt
	@echo "installing into .venv (PyTorch is large; a few minutes)"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

# AIHWKIT is only compared against. Its dependencies are left out on purpose: what the tests use needs none of them, and its
# torchvision would replace PyTorch. Where it cannot be installed the comparison is skipped, visibly.
.venv/aihwkit: .venv/installed
	-$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt tqdm
	-$(BIN)/pip install -q --disable-pip-version-check --no-deps aihwkit==1.1.0
	@touch $@

# AIHWKIT 1.2.0 with its C++ tiles, from source: minutes, needs g++, cmake, ninja and libopenblas-dev. For tests that compare with them.
.venv/aihwkit-cpp: .venv/aihwkit
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt setuptools wheel scikit-build pybind11
	PATH="$(CURDIR)/$(BIN):$$PATH" CMAKE_BUILD_PARALLEL_LEVEL=2 USE_CUDA=OFF $(BIN)/pip wheel -q --disable-pip-version-check \
		--no-deps --no-build-isolation --no-binary=aihwkit -w .venv/wheels aihwkit==1.2.0
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --force-reinstall .venv/wheels/aihwkit-1.2.0-*.whl
	@touch $@
