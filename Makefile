# Commands for daily work. Each installs its requirements first, prints each step, and is fast when repeated.

.DEFAULT_GOAL := help
.PHONY: help build demo test counts soak bench docs lint clean
MAKEFLAGS += --no-print-directory --no-builtin-rules

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
# Output goes to target/, regardless of the caller's environment. Handlers are built by the cargo that .ci/setup-wasm finds.
export CARGO_TARGET_DIR := $(or $(realpath target),$(CURDIR)/target)
export PLUGNODE_GUEST_CARGO := $(CURDIR)/target/guest-cargo
PORT ?= 8080

help: ## List these commands
	@echo "plugnode: Socket.IO applications as hot-swappable WebAssembly components"
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 16

build: ## Build target/release/plugnode, and every example as target/components/NAME.wasm
	@.ci/setup-wasm
	@.ci/build-host release
	@.ci/build-guests
	@.ci/build-js-runtime
	@.ci/build-py-runtime
	@echo "== ready: target/release/plugnode and target/components/"

demo: ## Build and run the chat, from nothing (PORT=8080)
	@.ci/setup-wasm
	@.ci/build-host program
	@.ci/build-guests chat
	@exec target/debug/plugnode dev examples/chat --port $(PORT)

test: ## Run all tests, from nothing: installs tools, Redis, Valkey, Chromium, npm and PyPI packages
	@.ci/setup-wasm
	@.ci/setup-tests
	@.ci/build-guests
	@.ci/build-component-guest chat
	@.ci/build-js-runtime
	@.ci/build-py-runtime
	@.ci/build-host dev
	@.ci/test

counts: ## Compare instruction counts of hot functions with the recorded ones (part of test)
	@.ci/setup-tests valgrind
	@.ci/counts

soak: ## Inject random faults under load for SOAK_MINUTES (30); stop at the first violation and print its seed
	@.ci/setup-wasm
	@.ci/setup-tests
	@.ci/build-guests recorder
	@.ci/build-host dev
	@PLUGNODE_BIN=$(CURDIR)/target/debug/plugnode exec target/debug/plugnode-soak

bench: ## Compare plugnode with its peers in about 20 minutes, to tests/bench/results (BENCH="echo idle" for a part)
	@.ci/setup-wasm
	@.ci/setup-tests redis npm
	@[[ " $(BENCH)" =~ \ [a-z] && " $(BENCH) " != *" invocation "* ]] || .ci/setup-bench
	@.ci/build-guests benchmark echo
	@.ci/build-host bench
	@echo "== benchmarks"
	@[[ -n "$(BENCH)" ]] || cargo bench --quiet --bench handler
	@cargo bench --quiet --bench bench -- $(BENCH)

docs: ## Build the book and the TypeScript reference to target/docs
	@.ci/build-docs

lint: ## Check formatting, clippy warnings and dependencies
	@echo "== formatting"
	@cargo fmt --all --check
	@cargo fmt --manifest-path tests/rust/Cargo.toml --check
	@cargo fmt --manifest-path guest-sdk/js/runtime/Cargo.toml --check
	@cargo fmt --manifest-path tests/bench/peers/http-echo/Cargo.toml --check
	@echo "== clippy"
	@cargo clippy --quiet --workspace --all-targets -- -D warnings
	@.ci/deny

clean: ## Remove build results
	@echo "== removing target/ and tests/node_modules/"
	@rm -rf target tests/node_modules
