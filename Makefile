# What people type. `make` alone lists it.
.DEFAULT_GOAL := help
SHELL := /bin/bash
target := $(shell uname -m)-unknown-linux-gnu
binary := target/$(target)/release/oxelb

help: ## This list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## The program, one static binary
	@hack/build

demo: ## Watch an address given, reached, and taken over, without Kubernetes
	@hack/install-deps demo
	@hack/build
	@cargo run --quiet --package oxelb-lab --bin lab -- demo

demo-k8s: image ## The same as a walk-through on a real cluster
	@hack/install-deps test
	@cargo run --quiet --package oxelb-lab --bin lab -- demo-k8s

test: ## Every test, also those on a real control plane and real nodes
	@hack/install-deps test
	@hack/kube-binaries >/dev/null
	@$(MAKE) --no-print-directory image
	cargo test --workspace --no-fail-fast

test-vm: ## BGP and BFD in a VRF, on a kernel that has it, in a virtual machine
	@hack/vm-test

bench: ## Speed and memory, each beside a floor measured in the same run
	@hack/install-deps test
	@hack/kube-binaries >/dev/null
	@hack/build
	@cargo fetch --quiet --locked # parts are built where there is no way out
	@cargo run --quiet --release --package oxelb-lab --bin lab -- bench

bench-failover: ## How long nobody answers, for each kind of fault, beside keepalived
	@hack/install-deps test
	@hack/build
	@cargo run --quiet --release --package oxelb-lab --bin lab -- bench-failover --picture docs/src/failover.svg

fuzz: ## What reads octets from the network, fed with damaged ones, three minutes
	@hack/fuzz

image: ## image/oxelb.tar, from scratch around the one binary
	@hack/install-deps image
	@hack/build
	@hack/image $(binary)

lint: ## Format, clippy, licences and duplicates
	@hack/lint

crds: ## The CRDs in deploy/, made anew from the types
	@cargo run --quiet --package oxelb-api --example crds

.PHONY: help build demo demo-k8s test test-vm bench bench-failover fuzz image lint crds
