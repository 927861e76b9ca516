# ftpsd. `make help` lists the targets; `make run` and `make test` are all a newcomer needs.

CARGO ?= cargo
DEMO  ?= target/demo
BUILT := $(abspath $(or $(CARGO_TARGET_DIR),target))

.DEFAULT_GOAL := help
.PHONY: help build rust run picture test clients clients-tools faults fuzz hostile one-port soak soak-tools deny test-large test-privileged test-init fleet test-board test-counts bench bench-ports bench-arm check fmt clippy doc clean tools

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

build: rust ## build the release binary, target/release/ftpsd
	$(CARGO) build --release --locked

# What a fresh machine lacks. Debian 12's cargo itself is too old; it has a newer one by the name of cargo-web.
rust: # a compiler and cargo, where apt can
	@missing=; \
	command -v $(firstword $(CARGO)) >/dev/null || missing="cargo-web"; \
	command -v cc >/dev/null || missing="$$missing gcc libc6-dev"; \
	[ -n "$$missing" ] || exit 0; \
	if ! command -v apt-get >/dev/null; then \
	    echo "Please install Rust 1.88 or newer (https://rustup.rs) and a C compiler." >&2; exit 1; \
	fi; \
	sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	echo "installing $$missing"; \
	$$sudo apt-get update -q && \
	$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $$missing || { \
	    echo "Please install Rust 1.88 or newer (https://rustup.rs) and a C compiler." >&2; exit 1; }

run: build ## serve a demo directory with TLS on 127.0.0.1:2121 and :2990
	@tests/demo/run $(BUILT)/release/ftpsd $(DEMO)

picture: build soak-tools ## draw the first run, as it really goes, into tests/demo/first-run.png
	@$(BUILT)/soak/venv/bin/python tests/demo/picture $(BUILT)/release/ftpsd tests/demo/first-run.png

# What measures pauses does so alone, after the rest, with nothing beside it. The second time no
# call newer than Linux 3.2 works, and nothing is measured.
test: tools build ## run every test, the server's against the release binary, twice
	FTPSD_BINARY=$(BUILT)/release/ftpsd $(CARGO) test --locked -- --skip gaps::
	FTPSD_BINARY=$(BUILT)/release/ftpsd \
	    $(CARGO) test --locked --test server -- --test-threads=1 gaps::
	FTPSD_OLD_KERNEL=1 FTPSD_BINARY=$(BUILT)/release/ftpsd \
	    $(CARGO) test --locked --test server -- --skip gaps::
	$(CARGO) test --locked --features fault-injection --test faults
	tests/hostile/run --quick $(BUILT)/release/ftpsd
	tests/hostile/one_port --quick $(BUILT)/release/ftpsd
	tests/hostile/soak --minutes 0.5 --out $(BUILT)/soak/quick $(BUILT)/release/ftpsd
	@$(MAKE) --no-print-directory test-privileged test-init
	@$(MAKE) --no-print-directory fleet FLEET=quick

test-large: build ## send 5 GiB both ways, over TLS
	FTPSD_BINARY=$(BUILT)/release/ftpsd $(CARGO) test --locked --test server -- --ignored --nocapture large::

# Each package for itself: what is not to be had leaves its client out.
clients: build clients-tools ## run the FTP clients of others against it, and write their rows into CLIENTS.md
	tests/clients/run --write --program $(BUILT)/release/ftpsd

clients-tools: # from apt, npm and PyPI, the latter two into target/clients
	@mkdir -p $(BUILT)/clients; missing=; \
	sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	for package in $(CLIENTS); do \
	    dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$package"; \
	done; \
	for pair in node:nodejs npm:npm go:golang-go javac:default-jdk-headless; do \
	    command -v $${pair%:*} >/dev/null || missing="$$missing $${pair#*:}"; \
	done; \
	[ -z "$$missing" ] || $$sudo apt-get update -q; \
	for package in $$missing; do \
	    $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $$package || \
	        echo "no $$package" >&2; \
	done; \
	[ -d $(BUILT)/clients/node_modules/basic-ftp ] && [ -d $(BUILT)/clients/node_modules/ftp ] || \
	    npm install --silent --no-audit --no-fund --prefix $(BUILT)/clients basic-ftp@6.2.3 ftp@0.3.10 || \
	    echo "no clients of Node" >&2; \
	$(BUILT)/clients/venv/bin/python -c 'import aioftp' 2>/dev/null || { \
	    python3 -m venv $(BUILT)/clients/venv && \
	    $(BUILT)/clients/venv/bin/pip install -q aioftp==0.28.3; } || echo "no aioftp" >&2

CLIENTS := curl lftp wget gftp-text ftp-ssl tnftp ncftp aria2 busybox rclone filezilla xvfb xdotool openbox \
    python3-pycurl python3-aioftp php-cli libio-socket-ssl-perl ruby \
    golang-github-jlaffaye-ftp-dev libcommons-net-java mono-runtime mono-mcs libmono-system4.0-cil

faults: build ## have each system call of sessions and uploads fail once, in every plausible way
	FTPSD_FAULTS=all FTPSD_BINARY=$(BUILT)/release/ftpsd \
	    $(CARGO) test --locked --test server -- --nocapture --test-threads=1 failing:: faulty::

fuzz: ## fuzz for MINUTES each (10) all targets of tests/fuzz, or ONLY="line path"
	@tests/fuzz/run $(or $(MINUTES),10) $(ONLY)

deny: ## check licences, sources and, where their database can be reached, advisories
	@tests/deny

# The test program alone runs as root, not cargo. The second time as above.
test-privileged: build ## run the tests that need root, through sudo where that is needed
	@if [ "$$(id -u)" = 0 ]; then runner=env; \
	elif command -v sudo >/dev/null; then runner='sudo env'; \
	else echo "NOT RUN: the tests that need root (no sudo here)" >&2; exit 0; fi; \
	for old in 0 1; do \
	    tests='--lib --test privileged -- --ignored'; \
	    [ $$old = 0 ] || tests='--test privileged -- --ignored filesystems:: mounts:: devices::'; \
	    $(CARGO) --config "target.'cfg(unix)'.runner = '$$runner FTPSD_OLD_KERNEL=$$old FTPSD_BINARY=$(BUILT)/release/ftpsd'" \
	        test --locked $$tests || exit; \
	done

test-init: build ## run what is in init/ in namespaces, as root or through sudo
	@if [ "$$(id -u)" = 0 ]; then runner=env; \
	elif command -v sudo >/dev/null; then runner='sudo env'; \
	else echo "NOT RUN: the tests of init/, which need root (no sudo here)" >&2; exit 0; fi; \
	host=$$(rustc -vV | sed -n 's/^host: //p'); \
	cross/dist "$$host" $(BUILT)/release/ftpsd $(BUILT)/init-dist && \
	$$runner FTPSD_BINARY=$(BUILT)/release/ftpsd \
	    FTPSD_DIST=$(BUILT)/init-dist/ftpsd-$(VERSION)-$$host.tar.gz tests/init/run

fleet: tools build ## try what FLEETS.md says, as root or through sudo; FLEET=quick for a part of it
	@if [ "$$(id -u)" = 0 ]; then runner=env; \
	elif command -v sudo >/dev/null; then runner='sudo env'; \
	else echo "NOT RUN: FLEETS.md, which needs root (no sudo here)" >&2; exit 0; fi; \
	fetched=$$(tests/fleet/fetch) && \
	$$runner FLEET_TOOLS=$$fetched tests/fleet/run $(if $(filter quick,$(FLEET)),--quick) $(BUILT)/release/ftpsd && \
	$(if $(filter quick,$(FLEET)),:,$$runner FLEET_TOOLS=$$fetched tests/fleet/in_uml $(BUILT)/release/ftpsd)

test-board: tools ## run the server on an emulated board; BOARD=full for the long form
	cross/build armv7-unknown-linux-musleabihf
	tools=$$(tests/board/fetch) && tests/board/run $(if $(filter full,$(BOARD)),--full) "$$tools" \
	    $(or $(CARGO_TARGET_DIR),target)/cross/armv7-unknown-linux-musleabihf/release/ftpsd

hostile: tools build ## run every attack of tests/hostile, and see whether the next honest client is served
	tests/hostile/run $(BUILT)/release/ftpsd

one-port: tools build ## have many sessions, curl -Z and strangers use one port for data connections
	tests/hostile/one_port $(BUILT)/release/ftpsd

# The static build is what devices have; where it cannot be made the other stands in.
soak: tools soak-tools build ## honest and hostile clients for MINUTES, with figures and a plot in target/soak
	@program=$(BUILT)/cross/x86_64-unknown-linux-musl/release/ftpsd; \
	cross/build x86_64-unknown-linux-musl || { \
	    echo "no static build: the soak is of the other" >&2; program=$(BUILT)/release/ftpsd; }; \
	tests/hostile/soak --minutes $(or $(MINUTES),60) --out $(BUILT)/soak $$program; outcome=$$?; \
	[ ! -x $(BUILT)/soak/venv/bin/python ] || $(BUILT)/soak/venv/bin/python tests/hostile/plot $(BUILT)/soak; \
	exit $$outcome

soak-tools: # matplotlib, in a place of its own
	@$(BUILT)/soak/venv/bin/python -c 'import matplotlib' 2>/dev/null || { \
	    mkdir -p $(BUILT)/soak && python3 -m venv $(BUILT)/soak/venv && \
	    $(BUILT)/soak/venv/bin/pip install -q 'matplotlib==3.9.4'; } || \
	    echo "no matplotlib: there will be a table, but no plot" >&2

# Valgrind counts; what takes how long does not matter.
test-counts: tools build ## count the instructions of transfers and compare with tests/bench/counts.json
	@$(CARGO) build --release --quiet --locked --example bench
	@tests/bench/counts $(BUILT)/release/ftpsd $(BUILT)/release/examples/bench

# The static build shows what memory a device gives; where it cannot be made the other stands in.
bench: build ## measure beside the limits of TLS, and beside peers with FTPSD_PEERS=DIR, into BENCHMARKS.md
	@$(CARGO) build --release --quiet --locked --example bench
	@cross/build x86_64-unknown-linux-musl || echo "no static build: memory is that of the other" >&2
	@tests/bench/run $(BUILT)/release/ftpsd $(BUILT)/release/examples/bench \
	    $(BUILT)/cross/x86_64-unknown-linux-musl/release/ftpsd

bench-ports: build ## measure small files through one data port, four, and a port each, into BENCHMARKS.md
	@$(CARGO) build --release --quiet --locked --example bench
	@tests/bench/ports $(BUILT)/release/ftpsd $(BUILT)/release/examples/bench

bench-arm: ## count the instructions of transfers on emulated ARM, beside pure-ftpd's, into BENCHMARKS.md
	@for target in armv7-unknown-linux-musleabihf armv5te-unknown-linux-musleabi; do \
	    cross/build $$target || exit; \
	    set -- "$$@" $$target=$(BUILT)/cross/$$target/release/ftpsd; \
	done; \
	peers=$$(tests/bench/arm/fetch) && tests/bench/arm/run "$$@" "$$peers"

check: fmt clippy doc ## format, lints and documentation, warnings being errors

fmt: ## check the format
	$(CARGO) fmt --all -- --check

clippy: ## run the lints, on every build there is
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --all-targets --features fault-injection -- -D warnings

doc: ## build the documentation
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items

clean: ## remove everything built
	$(CARGO) clean

tools: ## install the programs that the tests drive, where apt can
	@missing=; \
	PATH=$$PATH:/usr/sbin:/sbin; \
	for pair in curl:curl lftp:lftp python3:python3 rsyslogd:rsyslog busybox:busybox \
	    strace:strace valgrind:valgrind faketime:faketime ip:iproute2 inotifywait:inotify-tools systemd-analyze:systemd; do \
	    command -v $${pair%:*} >/dev/null || missing="$$missing $${pair#*:}"; \
	done; \
	/usr/bin/python3 -c 'import pycurl, aioftp' 2>/dev/null || \
	    missing="$$missing python3 python3-pycurl python3-aioftp"; \
	wanted=; \
	for pair in mkfs.ext4:e2fsprogs mkfs.xfs:xfsprogs mkfs.btrfs:btrfs-progs \
	    mkfs.f2fs:f2fs-tools mkfs.vfat:dosfstools linux.uml:user-mode-linux; do \
	    command -v $${pair%:*} >/dev/null || wanted="$$wanted $${pair#*:}"; \
	done; \
	command -v nmap >/dev/null || wanted="$$wanted nmap"; \
	[ -z "$$missing$$wanted" ] && exit 0; \
	if ! command -v apt-get >/dev/null; then \
	    [ -z "$$wanted" ] || echo "Not everything can be tried without:$$wanted" >&2; \
	    [ -z "$$missing" ] && exit 0; \
	    echo "make test needs:$$missing. Please install them." >&2; exit 1; \
	fi; \
	sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	install="$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends"; \
	echo "installing$$missing$$wanted"; \
	$$sudo apt-get update -q; \
	for package in $$wanted; do \
	    $$install $$package || echo "Not everything can be tried without $$package" >&2; \
	done; \
	[ -z "$$missing" ] || $$install $$missing

-include cross/cross.mk
