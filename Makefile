# ftpsd. `make help` lists the targets; `make run` and `make test` are all a newcomer needs.

CARGO ?= cargo
DEMO  ?= target/demo

.DEFAULT_GOAL := help
.PHONY: help build run test test-privileged test-board check fmt clippy doc clean tools

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

build: ## build the release binary, target/release/ftpsd
	$(CARGO) build --release --locked

run: build ## serve a demo directory with TLS on 127.0.0.1:2121 and :2990
	@$(CARGO) build --quiet --locked --example demo
	@target/debug/examples/demo target/release/ftpsd $(DEMO)

test: tools build ## run every test, the server's against the release binary
	FTPSD_BINARY=$(CURDIR)/target/release/ftpsd $(CARGO) test --locked
	$(CARGO) test --locked --features fault-injection --test faults
	@$(MAKE) --no-print-directory test-privileged

# The test program alone runs as root, not cargo.
test-privileged: build ## run the tests that need root, through sudo where that is needed
	@if [ "$$(id -u)" = 0 ]; then runner=env; \
	elif command -v sudo >/dev/null; then runner='sudo env'; \
	else echo "NOT RUN: the tests that need root (no sudo here)" >&2; exit 0; fi; \
	$(CARGO) --config "target.'cfg(unix)'.runner = '$$runner FTPSD_BINARY=$(CURDIR)/target/release/ftpsd'" \
	    test --locked --lib --test privileged -- --ignored

test-board: tools ## run the server on an emulated board; BOARD=full for the long form
	cross/build armv7-unknown-linux-musleabihf
	tools=$$(tests/board/fetch) && tests/board/run $(if $(filter full,$(BOARD)),--full) "$$tools" \
	    $(or $(CARGO_TARGET_DIR),target)/cross/armv7-unknown-linux-musleabihf/release/ftpsd

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
	    strace:strace faketime:faketime mkfs.ext4:e2fsprogs mkfs.vfat:dosfstools; do \
	    command -v $${pair%:*} >/dev/null || missing="$$missing $${pair#*:}"; \
	done; \
	/usr/bin/python3 -c 'import pycurl, aioftp' 2>/dev/null || \
	    missing="$$missing python3 python3-pycurl python3-aioftp"; \
	[ -z "$$missing" ] && exit 0; \
	if ! command -v apt-get >/dev/null; then \
	    echo "make test needs:$$missing. Please install them." >&2; exit 1; \
	fi; \
	sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	echo "installing$$missing"; \
	$$sudo apt-get update -q && $$sudo apt-get install -qy --no-install-recommends $$missing

-include cross/cross.mk
