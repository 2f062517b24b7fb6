# A thin door to CMake and the scripts. `make help` lists what it opens.
# Folders: build/ (programs), cache/ (fetched model and text; OSAE_CACHE moves it), runs/ (results).
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
.PHONY: help setup build model text quickstart tables check check-faults check-nightly check-peers install fuzz

JOBS := $(shell nproc)
PREFIX ?= /usr/local
OSAE := build/release/bin/osae
TESTING := --output-on-failure --no-tests=error -j $(JOBS)

# $(call build,PRESET,TARGET): a tree that is configured already only rebuilds what changed
define build
	@if ! [ -f build/$(1)/build.ninja ]; then
		log=$$(mktemp)
		cmake --preset $(1) >"$$log" 2>&1 || { cat "$$log"; rm -f "$$log"; exit 1; }
		rm -f "$$log"
	fi
	cmake --build build/$(1) -j $(JOBS) --target $(2)
endef

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

setup: ## install the Debian packages that are missing (asks for root only then)
	@scripts/setup.sh

build: setup ## the release build, in build/release/bin
	$(call build,release,programs)

model: setup ## fetch the small language model of the quickstart into the cache
	@scripts/fetch-model.sh >/dev/null

text: setup ## fetch the text of the quickstart into the cache
	@scripts/fetch-text.sh --profile quickstart >/dev/null

quickstart: build model text ## from nothing to the scores of a trained SAE, in minutes
	$(OSAE) run config/quickstart.yaml
	$(OSAE) report runs/quickstart

tables: build model text ## the paper's two tables on the quickstart's model: seven short runs (STEPS=N: shorter)
	scripts/tables.sh $(STEPS)

check: setup ## every fast test, under the address and undefined-behaviour sanitizers; builds release too
	$(call build,release,programs)
	$(call build,dev,all)
	if OSAE_SMOLLM2=$$(scripts/fetch-model.sh); then export OSAE_SMOLLM2; fi # else its tests are skipped
	ctest --test-dir build/dev -L fast $(TESTING)

check-faults: setup ## the tests that break things: 10,000 simulated worlds, failing disks, kill -9 (on the release build)
	$(call build,release,all)
	ctest --test-dir build/release -L fault $(TESTING)

NIGHTLY_FUZZ ?= 300
check-nightly: setup ## hours: 1,000 kills, a million simulated worlds, a soak of 30 minutes, NIGHTLY_FUZZ=300 s of each fuzzer
	$(call build,release,all)
	ctest --test-dir build/release -L nightly $(TESTING)
	if command -v clang >/dev/null; then
		$(MAKE) --no-print-directory fuzz SECONDS=$(NIGHTLY_FUZZ)
	else
		echo "check-nightly: fuzz skipped: there is no clang here (make fuzz installs it)"
	fi

check-peers: build ## our numbers beside SAEBench's own, on the same inputs (installs it, about 2 GB)
	@tests/peers/check.bash $(OSAE)

SECONDS ?= 60
fuzz: setup ## libFuzzer over every parser of foreign bytes, SECONDS=60 each (installs clang)
	@scripts/setup.sh fuzz
	$(call build,fuzz,fuzzers)
	scripts/fuzz.sh $(SECONDS)

install: build ## install under PREFIX (default /usr/local)
	cmake --install build/release --prefix $(PREFIX)
