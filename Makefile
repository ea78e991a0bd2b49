# bedplate: build, check, demonstrate, install. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build

DESTDIR ?=
TARGET ?= $(or $(CARGO_TARGET_DIR),target)
# The launcher needs nothing of the host at boot. It is kept apart: the next ordinary build would replace it.
STATIC := -C target-feature=+crt-static

# Where things go, by GNU's names. Units name the launcher, so `libexecdir` is compiled in: give the same names to
# `release` and `install`.
prefix ?= /usr
exec_prefix ?= $(prefix)
bindir ?= $(exec_prefix)/bin
libexecdir ?= $(exec_prefix)/libexec
datarootdir ?= $(prefix)/share
datadir ?= $(datarootdir)
docdir ?= $(datarootdir)/doc/bedplate
licensedir ?= $(datarootdir)/licenses/bedplate
mandir ?= $(datarootdir)/man
bashcompdir ?= $(datadir)/bash-completion/completions
zshcompdir ?= $(datadir)/zsh/site-functions
fishcompdir ?= $(datadir)/fish/vendor_completions.d
catalogdir ?= $(prefix)/lib/systemd/catalog
unitdir ?= $(prefix)/lib/systemd/system
presetdir ?= $(prefix)/lib/systemd/system-preset
LAUNCHER := $(libexecdir)/bedplate/launch
ifneq ($(LAUNCHER),/usr/libexec/bedplate/launch)
export BEDPLATE_LAUNCHER := $(LAUNCHER)
endif
# `PROFILE=debug` installs what `build` makes, `STRIP=` installs it with its symbols.
PROFILE ?= release
BUILT = $(if $(filter debug,$(PROFILE)),build,release)
STRIP ?= -s
# What explains journal entries is read from a database; packages have triggers for it.
CATALOG = $(if $(DESTDIR),,! command -v journalctl >/dev/null || journalctl --update-catalog)
# Without the launcher no container starts any more, now or at the next boot: they go first, and by name.
define NO_CONTAINERS
installed=; \
for current in $(DESTDIR)/var/lib/bedplate/containers/*/current; do \
	[[ ! -L $$current ]] || { name=$${current%/current}; installed+=" $${name##*/}"; }; \
done; \
[[ -z $$installed ]] || { \
	echo "bedplate: these system containers are installed and cannot start without it:$$installed" >&2; \
	echo "bedplate: uninstall them first; their data stays: bedplate uninstall$$installed" >&2; \
	exit 1; \
}
endef
# The links of what the operator has enabled; a timer that runs would start what is gone.
define DISABLE
if command -v systemctl >/dev/null; then \
	for unit in bedplate-recover.service bedplate-update.timer; do \
		[[ ! -e $(unitdir)/$$unit ]] || systemctl --quiet --root=/ disable "$$unit"; \
	done; \
	[[ ! -d /run/systemd/system ]] || systemctl --quiet stop bedplate-update.timer; \
fi
endef
# systemd forgets units that are gone only when it is told.
RELOAD = $(if $(DESTDIR),,[[ ! -d /run/systemd/system ]] || systemctl daemon-reload)

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

man: $(BUILT) ## the manual pages, target/man
	rm -rf $(TARGET)/man
	mkdir -p $(TARGET)/man
	$(TARGET)/$(PROFILE)/bedplate man $(TARGET)/man

completions: $(BUILT) ## what bash, zsh and fish need to complete words, target/completions
	mkdir -p $(TARGET)/completions
	$(TARGET)/$(PROFILE)/bedplate completions bash >$(TARGET)/completions/bedplate
	$(TARGET)/$(PROFILE)/bedplate completions zsh >$(TARGET)/completions/_bedplate
	$(TARGET)/$(PROFILE)/bedplate completions fish >$(TARGET)/completions/bedplate.fish

install: $(BUILT) man completions ## install below $(DESTDIR)$(prefix); PROFILE=debug, STRIP= and GNU's directory names are obeyed
	install -D $(STRIP) -m 0755 $(TARGET)/$(PROFILE)/bedplate $(DESTDIR)$(bindir)/bedplate
	install -D -m 0755 $(TARGET)/static/$(PROFILE:debug=.)/bedplate-launch $(DESTDIR)$(LAUNCHER)
	install -d -m 0755 $(DESTDIR){$(docdir),$(licensedir)}
	install -m 0644 LICENSE-* $(DESTDIR)$(licensedir)
	install -D -m 0644 -t $(DESTDIR)$(mandir)/man5 $(TARGET)/man/*.5
	install -D -m 0644 -t $(DESTDIR)$(mandir)/man7 $(TARGET)/man/*.7
	install -D -m 0644 -t $(DESTDIR)$(mandir)/man8 $(TARGET)/man/*.8
	install -D -m 0644 -t $(DESTDIR)$(bashcompdir) $(TARGET)/completions/bedplate
	install -D -m 0644 -t $(DESTDIR)$(zshcompdir) $(TARGET)/completions/_bedplate
	install -D -m 0644 -t $(DESTDIR)$(fishcompdir) $(TARGET)/completions/bedplate.fish
	install -D -m 0644 -t $(DESTDIR)$(datadir)/bedplate/schema docs/schema/*.json
	install -D -m 0644 -t $(DESTDIR)$(catalogdir) dist/bedplate.catalog
	install -D -m 0644 -t $(DESTDIR)$(unitdir) dist/*.service dist/*.timer
	sed -i 's|@bindir@|$(bindir)|' $(patsubst dist/%,$(DESTDIR)$(unitdir)/%,$(wildcard dist/*.service))
	install -D -m 0644 dist/bedplate.preset $(DESTDIR)$(presetdir)/50-bedplate.preset
	umask 022 && packaging/licences >$(DESTDIR)$(licensedir)/third-party.txt
	umask 022 && cp -R README.md CHANGELOG.md docs examples $(DESTDIR)$(docdir)
	rm -r $(DESTDIR)$(docdir)/docs/schema
	$(CATALOG)

uninstall: ## remove what `install` put there, unless containers are installed; images and settings stay
	@$(NO_CONTAINERS)
	$(if $(DESTDIR),,$(DISABLE))
	rm -f $(DESTDIR){$(bindir)/bedplate,$(LAUNCHER),$(bashcompdir)/bedplate,$(zshcompdir)/_bedplate,$(fishcompdir)/bedplate.fish}
	rm -f $(DESTDIR)$(mandir)/{man5/bedplate.toml.5,man7/bedplate-contract.7,man8/bedplate{,-*}.8} $(DESTDIR)$(catalogdir)/bedplate.catalog
	rm -f $(patsubst dist/%,$(DESTDIR)$(unitdir)/%,$(wildcard dist/*.service dist/*.timer))
	rm -f $(DESTDIR)$(presetdir)/50-bedplate.preset
	[[ ! -d $(DESTDIR)$(libexecdir)/bedplate ]] || rmdir --ignore-fail-on-non-empty $(DESTDIR)$(libexecdir)/bedplate
	rm -rf $(DESTDIR){$(docdir),$(licensedir),$(datadir)/bedplate}
	$(CATALOG)
	$(RELOAD)

dist: ## target/dist/bedplate-VERSION.tar.zst: the last commit and every crate it is built from
	packaging/dist

deb: ## target/deb/*.deb, from the archive and without a network; needs debhelper
	packaging/deb

check: ## every test, as continuous integration runs it; installs what they need; 40 minutes
	tests/check all

check-lint: ## formatting, clippy, documentation
	tests/check lint

check-unit: ## unit and golden tests
	tests/check unit

check-offline: ## whole verbs on a temporary root
	tests/check offline

check-package: ## what packages are made from; packaging/check says how packages themselves are checked
	tests/check package

check-booted: ## real systemd in nspawn
	tests/check booted

check-machine: ## a whole machine under qemu: fs-verity, power cuts
	tests/check machine

check-crash: ## a crash after every change of the host, and power cuts: nothing is lost; half an hour
	tests/check crash

fidelity: build ## docs/fidelity.md, from what the booted stories show now; half an hour
	tests/vm/setup host guests machine
	rm -rf $(TARGET)/vm/fidelity
	cargo test --locked --test vm
	BEDPLATE_BLESS=1 cargo test --locked --test fidelity

bench: release ## against podman, containerd and umoci: BENCH_RUNS=5, BENCH_SCENARIOS=cold-gzip,noop for a part
	tests/bench/setup
	BEDPLATE_LAUNCH=$(abspath $(TARGET)/static/release/bedplate-launch) cargo bench --locked --bench install

measure-boot: build ## what a container adds to the boot of a whole machine, and what a native service does
	cargo test --locked --test vm -- --ignored measure-boot

demo: ## etcd, flanneld and containerd as system containers in a booted machine
	tests/vm/demo

clean: ## remove what was built, guests and images included
	cargo clean

.PHONY: help setup build release man completions install uninstall dist deb check check-lint check-unit check-offline check-package check-booted check-machine check-crash fidelity bench measure-boot demo clean
