# What one does with this repository. Bare `make` explains.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run build load test test-tools check-deploy lint fmt sim fuzz clean \
	bench bench-tools bench-parts bench-runtimes bench-compare bench-peers bench-curve flamegraph

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
# The simulator is a feature of the engine; tests alone turn it on.
TEST_FEATURES := --features no-engine/sim
ARGS ?=

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## Build nO and run it on loopback with a sample agent (ARGS="--port 8080")
	@exec $(TARGET)/release/no dev $(ARGS)

build: ## Build the binary, target/release/no
	@$(CARGO) build --release --locked -p no-ops

# PROFILE to command; a server that is named is used, else one is started for the load.
LOAD_basic := profile basic
LOAD_stress := profile stress
LOAD_overload := overload
LOAD_restarts := restarts
LOAD_soak := soak
LOAD := $(if $(PROFILE),$(LOAD_$(PROFILE)),run)
LOAD_SERVE := $(if $(NO_URL)$(findstring --url,$(ARGS)),,--serve $(TARGET)/release/no)

load: ## Put load on nO, its own or NO_URL: PROFILE=basic|stress|overload|restarts|soak, ARGS="--rate 1000 --wait"
	@if [ -z "$(LOAD)" ]; then echo "PROFILE is basic, stress, overload, restarts or soak" >&2; exit 2; fi
	@$(CARGO) build --release --locked -p no-loadtest $(if $(LOAD_SERVE),-p no-ops)
	@exec $(TARGET)/release/loadtest $(LOAD) $(LOAD_SERVE) $(ARGS)

test: test-tools ## Run all tests; installs what they need first
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		$(CARGO) nextest run --workspace --locked --no-fail-fast $(TEST_FEATURES) $(ARGS); \
	else \
		$(CARGO) test --workspace --locked --no-fail-fast $(TEST_FEATURES) $(ARGS); \
	fi

test-tools: # What tests use that is not Rust, into target/test-tools
	@bash .ci/test-tools
	@bash .ci/deploy-tools

check-deploy: ## Check deploy/ with checkov as well, which takes minutes to install
	@bash .ci/check-deploy

lint: ## Check format, lints and dependencies
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --workspace --all-targets --locked $(TEST_FEATURES) -- -D warnings
	@bash .ci/deny

fmt: ## Format all code
	@$(CARGO) fmt --all

sim: ## Run the simulator without end, or one seed: SEED=7 make sim
	@while true; do \
		seed=$${SEED:-$$RANDOM$$RANDOM$$RANDOM}; \
		echo "seed $$seed"; \
		SEED=$$seed $(CARGO) test --release --locked --quiet -p no-engine --features sim \
			--test sim -- --nocapture the_promises_hold; \
		if [ -n "$${SEED:-}" ]; then break; fi; \
	done

fuzz: ## Search for inputs that break nO: TIME=60 a target, TARGETS="token config"
	@TIME="$(TIME)" TARGETS="$(TARGETS)" AT_ONCE="$(AT_ONCE)" bash .ci/fuzz $(ARGS)

bench-peers: build ## Measure nO beside Restate, BullMQ and others, on this machine in one run
	@bash benches/peers/run

BENCH := $(TARGET)/release/bench
BENCH_PLACES = --binary $(TARGET)/release/no --place $(TARGET)/bench/data
ROWS_OPTION = $(if $(ROWS),--rows $(ROWS))

bench: ## Measure what nO reaches: ROWS=single,latency, PEERS=1 for rivals, ARGS=--quick
	@command -v slowhttptest >/dev/null || bash .ci/apt slowhttptest || true
	@$(CARGO) build --release --locked -p no-ops -p no-benches
	@if [ -n "$(PEERS)" ]; then env -u PEERS bash benches/peers/run; fi
	@exec $(BENCH) run $(BENCH_PLACES) --json $(TARGET)/bench $(ROWS_OPTION) \
		$(if $(PEERS),--peers $(TARGET)/bench/peers.json) \
		$(if $(ROWS)$(findstring --quick,$(ARGS)),,--results benches) $(ARGS)

bench-parts: ## Measure the parts alone, by criterion PARTS="turn ring", ARGS=--test
	@$(CARGO) bench --locked -p no-benches $(foreach part,$(PARTS),--bench $(part)) -- $(ARGS)

bench-runtimes: ## Compare the net core's runtime with its rivals, on one core each
	@$(CARGO) build --release --locked -p no-benches --features rivals
	@exec $(BENCH) runtimes $(ARGS)

bench-compare: ## Measure BASE=<commit> and this one by turns (ROWS=single,batched, ARGS="--rounds 5")
	@if [ -z "$(BASE)" ]; then echo "BASE=<commit> is missing" >&2; exit 2; fi
	@bash .ci/build-base $(TARGET)/bench/base "$(BASE)"
	@$(CARGO) build --release --locked -p no-ops -p no-benches
	@exec $(BENCH) compare $(BENCH_PLACES) --base $(TARGET)/bench/base-target/release/no \
		$(ROWS_OPTION) $(ARGS)

bench-curve: ## Predict what more cores would give, from the costs measured here
	@$(CARGO) build --release --locked -p no-ops -p no-benches
	@exec $(BENCH) curve $(BENCH_PLACES) --json $(TARGET)/bench/curve.json $(ARGS)

flamegraph: bench-tools ## Draw where the time goes under load (ARGS="--batch 100")
	@$(CARGO) build --release --locked -p no-ops -p no-benches
	@exec $(BENCH) flamegraph $(BENCH_PLACES) --tools $(TARGET)/test-tools/bin \
		--svg $(TARGET)/bench/flamegraph.svg $(ARGS)

bench-tools: # What the flame graph needs, into target/test-tools
	@bash .ci/bench-tools

clean: ## Remove everything built, but no data
	@$(CARGO) clean
