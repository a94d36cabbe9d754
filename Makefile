# Two commands do everything, set-up included: `make demo` and `make test`. `make help` lists the rest.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/portreeve
CARGO_DENY_VERSION := 0.20.2
TARGET := x86_64-unknown-linux-gnu
TESTBED := target/debug/portreeve-testbed

# Debian packages of the testbed and the build; each is named here once.
PACKAGES := build-essential pkg-config iproute2 iptables nftables conntrack procps util-linux containerd runc containernetworking-plugins

.PHONY: help demo demo-down test test-quick bench gen check image clean setup packages tools assets binaries

help:
	@echo 'make demo        the main job on a real three-node cluster, act by act (root; KEEP=1 leaves it up; ONLY=act,act; PROXY=nftables)'
	@echo 'make demo-down   end a cluster that KEEP=1 left up'
	@echo 'make test        every check and test, the real cluster included (root)'
	@echo 'make test-quick  checks and tests that need neither root nor a control plane'
	@echo 'make bench       benchmarks against peers (root; ONLY=part,part); writes target/bench/*.json'
	@echo 'make gen         regenerate CRDs, RBAC, charts, dashboards and reference pages'
	@echo 'make image       the container image as an OCI archive, target/image/portreeve.tar'
	@echo 'make clean       remove target/; the cache of control plane binaries in $(CACHE) stays'

demo: setup binaries
	$(TESTBED) demo $(if $(KEEP),--keep) $(if $(ONLY),--only $(ONLY)) $(if $(PROXY),--proxy-mode $(PROXY))

demo-down:
	$(TESTBED) down

test: setup binaries
	cargo xtask check
	cargo test --workspace
	$(TESTBED) demo --out target/test-demo
	@echo 'test: every check, every test and every act of the demo passed'

test-quick: tools
	cargo xtask check
	cargo test --workspace --exclude portreeve-e2e

bench: setup
	cargo build --release --package portreeve-webhook --package portreeve-operator --package portreeve-agent --bins
	cargo build --release --package portreeve-webhook --example echo
	cargo build --release --package portreeve-e2e --bins
	$(if $(ONLY),,cargo bench --package portreeve-webhook --bench decision --bench direct)
	target/release/portreeve-testbed bench $(if $(ONLY),--only $(ONLY))

gen:
	cargo xtask gen

check: tools
	cargo xtask check

image: $(TESTBED)
	$(TESTBED) image --only-portreeve --out target/image

clean:
	rm -rf target

# --- set-up: says what it lacks before anything fails -----------------------------------------------------------------

setup: packages tools assets

packages:
	@missing=''; for p in $(PACKAGES); do dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "setup: installing$$missing"; apt-get update -qq; DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$missing >/dev/null; \
	  else echo "setup: these packages are missing:$$missing"; echo "       run as root: apt-get install$$missing"; exit 1; fi; fi
	@for tool in cargo go; do command -v $$tool >/dev/null || { echo "setup: '$$tool' is missing; install Rust (rustup.rs) and Go 1.26 or newer"; exit 1; }; done
	@[ "$$(id -u)" = 0 ] || { echo "setup: the real cluster needs root (namespaces, mounts, cgroups); run with sudo, or use 'make test-quick'"; exit 1; }

tools: $(CACHE)/tools/bin/cargo-deny

$(CACHE)/tools/bin/cargo-deny:
	@echo "setup: building cargo-deny $(CARGO_DENY_VERSION) once (about 3 minutes on 2 cores)"
	cargo install --quiet --locked cargo-deny --version $(CARGO_DENY_VERSION) --root $(CACHE)/tools

assets: $(TESTBED)
	$(TESTBED) assets

$(TESTBED): FORCE
	cargo build --package portreeve-e2e --bins
FORCE:

binaries:
	cargo build --workspace --bins
