# The few commands a person needs. Each brings what it needs first, says what it does, and is quick the second time.

.DEFAULT_GOAL := help
.PHONY: help build demo test counts soak bench docs lint clean
MAKEFLAGS += --no-print-directory --no-builtin-rules

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
# Written paths begin with target/, whatever the caller's environment says; handlers are built by a cargo that .ci/setup-wasm finds.
export CARGO_TARGET_DIR := $(or $(realpath target),$(CURDIR)/target)
export PLUGNODE_GUEST_CARGO := $(CURDIR)/target/guest-cargo
PORT ?= 8080

help: ## Say what there is
	@echo "plugnode: Socket.IO applications as hot-swappable WebAssembly components"
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 16

build: ## target/release/plugnode, and every example as target/components/NAME.wasm
	@.ci/setup-wasm
	@.ci/build-host release
	@.ci/build-guests
	@.ci/build-js-runtime
	@.ci/build-py-runtime
	@echo "== ready: target/release/plugnode and target/components/"

demo: ## The chat in a browser, from nothing (PORT=8080)
	@.ci/setup-wasm
	@.ci/build-host program
	@.ci/build-guests chat
	@exec target/debug/plugnode dev examples/chat --port $(PORT)

test: ## All tests, from nothing: tools, Redis, Valkey, Chromium, packages of npm and PyPI
	@.ci/setup-wasm
	@.ci/setup-tests
	@.ci/build-guests
	@.ci/build-component-guest chat
	@.ci/build-js-runtime
	@.ci/build-py-runtime
	@.ci/build-host dev
	@.ci/test

counts: ## How many instructions hot functions take, beside what was recorded; a part of the tests
	@.ci/setup-tests valgrind
	@.ci/counts

soak: ## Faults under load, in random order, for SOAK_MINUTES (30); stops at the first violation and says its seed
	@.ci/setup-wasm
	@.ci/setup-tests
	@.ci/build-guests recorder
	@.ci/build-host dev
	@PLUGNODE_BIN=$(CURDIR)/target/debug/plugnode exec target/debug/plugnode-soak

bench: ## Measure plugnode beside its peers, in one run of some 20 minutes: tests/bench/results (BENCH="echo idle" for a part)
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

clean: ## Remove what was built here
	@echo "== removing target/ and tests/node_modules/"
	@rm -rf target tests/node_modules
