# `make run` and `make test` set up all they need; `make help` lists the rest.
.DEFAULT_GOAL := help
.PHONY: help setup run test lint types imports pytest format soak bench lock clean

BIN := .venv/bin
PACKAGES := market storage collector signals backtest alerts deltatape migrations benchmarks tests
ROUNDS ?= 1

# $(call part,what must hold,command): says what begins, and how to run it again when it fails.
define part
@echo "soak: $(1)"
@$(2) || { echo "soak: failed: $(1); again: $(2)" >&2; exit 1; }
endef

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## .venv with the locked packages and the command .venv/bin/deltatape
	@bash scripts/setup.sh

run: setup ## the main job, offline, against the simulator; ends by itself
	@$(BIN)/deltatape demo

test: lint types imports pytest ## everything that must hold before a change lands

lint: setup ## style and common mistakes
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup ## strict static types
	$(BIN)/mypy

imports: setup ## which package may import which
	$(BIN)/lint-imports

pytest: setup ## the tests, on a TimescaleDB of their own
	DELTATAPE_TEST_IN_MEMORY=1 $(BIN)/pytest -n 3 --dist worksteal

format: setup ## rewrite the sources in the house's style
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

soak: setup ## ROUNDS=1 of the tests, then what must hold at full scale: hours
	@for round in $$(seq $(ROUNDS)); do echo "soak: the tests, round $$round of $(ROUNDS)"; \
		$(BIN)/pytest -q -n 2 --hypothesis-profile searching || { echo "soak: failed; again: make pytest"; exit 1; }; done
	$(call part,24 simulated hours,$(BIN)/python -m tests.soak.virtual)
	$(call part,100000 worse messages an adapter,DELTATAPE_FUZZ_MESSAGES=100000 $(BIN)/pytest -q -n 2 tests/collector/test_fuzz.py)
	$(call part,10 million messages in flat memory,$(BIN)/python -m tests.soak.memory)
	$(call part,3000 times random orders and markets against the reference engine,DELTATAPE_ENGINE_CASES=3000 $(BIN)/pytest -q -n 2 --timeout 3000 tests/backtest/test_random_orders.py tests/backtest/test_random_queue.py tests/backtest/test_kernel.py)
	$(call part,50 kills of the database server,$(BIN)/python -m tests.soak.kills --rounds 50)
	$(call part,200 seeds of faults,$(BIN)/python -m tests.soak.faults --seeds 200)
	$(call part,10000 alerts through a channel that fails and 20 kills,$(BIN)/python -m tests.soak.alerts)
	$(call part,200 random walks and planted hit rates,$(BIN)/python -m tests.soak.quality)

bench: setup ## what benchmarks/ measures, on this machine
	$(BIN)/python -m benchmarks

lock: setup ## resolve requirements.lock anew, for Python 3.11 to 3.13 on every platform
	@bash scripts/lock.sh

clean: ## what was built and cached here; never the tape
	rm -rf dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find $(PACKAGES) -name __pycache__ -prune -exec rm -rf {} +
