# `make` alone lists the targets. Each one installs what it lacks first: see scripts/setup.sh.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

export LOCKKEEPER_TOOLS := $(CURDIR)/.tools/bin
export PATH := $(LOCKKEEPER_TOOLS):$(PATH)

# Arguments for the demo, for example: make demo ARGS="--agents 10"
ARGS ?=

.PHONY: help setup demo model sim sim-bugs bench-adapter test test-full lint fmt

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Install everything that the tests need (etcd, PostgreSQL, MariaDB, grpcurl, buf)
	@scripts/setup.sh test

# A development build: it starts sooner, and the demo spends its time in waits and databases.
demo: ## Run a rollout over two regions with writing agents, on embedded defaults
	@scripts/setup.sh demo
	cargo run --locked -p lockkeeper -- demo $(ARGS)

model: ## Check the fence in every order of events within bounds, and that every seeded bug is caught
	cargo run --locked -q -p lockkeeper-model

# Seeds to simulate, or one of them to look at: make sim SEED=7
SEEDS ?= 10000
SEED ?=

# A build of its own: with a scheduler whose choices follow from the seed, and with the seeded bugs (BUG=name).
sim: ## Simulate fleets whose network, store and databases fail, and check every promise
	RUSTFLAGS="--cfg tokio_unstable --cfg mutations" CARGO_TARGET_DIR=target/sim cargo run --locked --profile sim \
	    -p lockkeeper-sim -- $(if $(SEED),--seed $(SEED),--seeds $(SEEDS)) $(if $(BUG),--bug $(BUG)) $(if $(BUGS),--bugs)

sim-bugs: ## Plant every seeded bug of coordinators and driver, and say which seed catches it
	$(MAKE) --no-print-directory sim SEEDS=$(SEEDS) BUGS=1

test: lint build ## Formatting, lints, unit, conformance, end-to-end and doc tests
	cargo test --workspace --locked
	$(MAKE) --no-print-directory sim SEEDS=300
	$(MAKE) --no-print-directory sim-bugs SEEDS=1000

test-full: lint build ## The same and the tests that take long
	LOCKKEEPER_TEST_FULL=1 cargo test --workspace --locked

# Both ends of the product: what the engine costs, and what the fence costs the application.
.PHONY: bench bench-quick
bench: bench-engine bench-adapter ## All measurements, into target/bench/*.json (docs/benchmarks.md)

bench-quick: setup ## The same in fewer and shorter rounds: for a first look, not for publishing
	cargo build --release --locked -p lockkeeper
	cargo bench --locked -p lockkeeper-tests --bench engine -- --rounds 2
	MILLIS=500 ROUNDS=3 cargo run --release --locked -p lockkeeper-agent --features sqlx --example bench-adapter

bench-adapter: setup ## Cost of the agent's sqlx adapter over bare sqlx, into target/bench/adapter.json
	cargo run --release --locked -p lockkeeper-agent --features sqlx --example bench-adapter

# The end-to-end tests start the program, which `cargo test` alone does not build. With all targets the
# features of the dependencies are the ones that the tests use, so nothing is compiled twice.
.PHONY: build
build: setup
	cargo build --workspace --all-targets --locked

lint: setup ## Check formatting, clippy and the protobuf API without changing anything
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	buf lint
	buf format --diff --exit-code

# Against other migrators too, as far as they are installed: what is missing is said.
.PHONY: bench-engine
bench-engine: setup ## Time the migration engine beside psql, mariadb, sqlite3 and other migrators
	cargo build --release --locked -p lockkeeper
	cargo bench --locked -p lockkeeper-tests --bench engine

fmt: setup ## Format the Rust and protobuf sources
	cargo fmt --all
	buf format --write
