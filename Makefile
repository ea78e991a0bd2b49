# bedplate: build, check, demonstrate, install. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build

prefix ?= /usr
DESTDIR ?=
TARGET ?= $(or $(CARGO_TARGET_DIR),target)
# The launcher needs nothing of the host at boot. It is kept apart: the next ordinary build would replace it.
STATIC := -C target-feature=+crt-static

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | \
		while IFS=: read -r name rest; do printf '%-14s %s\n' "$$name" "$${rest#*## }"; done

setup: ## install what building and testing needs (Debian, root); quick when all is there
	tests/vm/setup host

build: ## the program and its launcher, for development
	cargo build --locked
	cargo rustc --locked --bin bedplate-launch -- $(STATIC)
	install -D -m 0755 $(TARGET)/debug/bedplate-launch $(TARGET)/static/bedplate-launch

release: ## the same, optimised
	cargo build --locked --release --bin bedplate
	cargo rustc --locked --release --bin bedplate-launch -- $(STATIC) -C opt-level=s -C panic=abort -C strip=symbols
	install -D -m 0755 $(TARGET)/release/bedplate-launch $(TARGET)/static/release/bedplate-launch

man: release ## the manual pages, target/man
	rm -rf $(TARGET)/man
	mkdir -p $(TARGET)/man
	$(TARGET)/release/bedplate man $(TARGET)/man

completions: release ## what bash, zsh and fish need to complete words, target/completions
	mkdir -p $(TARGET)/completions
	$(TARGET)/release/bedplate completions bash >$(TARGET)/completions/bedplate
	$(TARGET)/release/bedplate completions zsh >$(TARGET)/completions/_bedplate
	$(TARGET)/release/bedplate completions fish >$(TARGET)/completions/bedplate.fish

install: release man completions ## install the release build, stripped, below $(DESTDIR)$(prefix)
	install -D -s -m 0755 $(TARGET)/release/bedplate $(DESTDIR)$(prefix)/bin/bedplate
	install -D -m 0644 -t $(DESTDIR)$(prefix)/share/man/man8 $(TARGET)/man/*.8
	install -D -m 0644 -t $(DESTDIR)$(prefix)/share/bash-completion/completions $(TARGET)/completions/bedplate
	install -D -m 0644 -t $(DESTDIR)$(prefix)/share/zsh/site-functions $(TARGET)/completions/_bedplate
	install -D -m 0644 -t $(DESTDIR)$(prefix)/share/fish/vendor_completions.d $(TARGET)/completions/bedplate.fish
	install -D -m 0755 $(TARGET)/static/release/bedplate-launch $(DESTDIR)$(prefix)/libexec/bedplate/launch
	install -D -m 0644 -t $(DESTDIR)$(prefix)/share/bedplate/schema docs/schema/*.json
	install -D -m 0644 -t $(DESTDIR)$(prefix)/lib/systemd/catalog dist/bedplate.catalog

check: ## every test, as continuous integration runs it
	tests/check all

check-lint: ## formatting, clippy, documentation
	tests/check lint

check-unit: ## unit and golden tests
	tests/check unit

check-offline: ## whole verbs on a temporary root
	tests/check offline

check-booted: ## real systemd in nspawn
	tests/check booted

check-machine: ## a whole machine under qemu: fs-verity
	tests/check machine

check-crash: ## SIGKILL at 200 moments of an import, and of a prune: nothing is lost
	tests/check crash

bench: release ## against podman, containerd and umoci: BENCH_RUNS=5, BENCH_SCENARIOS=cold-gzip,noop for a part
	tests/bench/setup
	BEDPLATE_LAUNCH=$(abspath $(TARGET)/static/release/bedplate-launch) cargo bench --locked --bench install

demo: ## etcd, flanneld and containerd as system containers in a booted machine
	tests/vm/demo

clean: ## remove what was built, guests and images included
	cargo clean

.PHONY: help setup build release man completions install check check-lint check-unit check-offline check-booted check-machine check-crash bench demo clean
