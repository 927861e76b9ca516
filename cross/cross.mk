# Building for the devices. Included by the Makefile one directory up.
#
# TARGET is one of the .conf files in this directory, without the suffix.

TARGET ?= armv7-unknown-linux-musleabihf

CROSS_DIR := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))
CROSS_TARGETS := $(sort $(basename $(notdir $(wildcard $(CROSS_DIR)/*.conf))))
CROSS_OUT := $(or $(CARGO_TARGET_DIR),target)
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
# For `make dist` and `make test-dist`: TARGET where it is told, else all.
TARGETS ?= $(if $(filter file,$(origin TARGET)),$(CROSS_TARGETS),$(TARGET))

# What test-arm runs on, the one that differs most first; ARM_TESTS chooses among the tests.
ARM_TARGETS ?= armv5te-unknown-linux-musleabi armv7-unknown-linux-musleabihf aarch64-unknown-linux-musl

.PHONY: cross cross-all cross-tools dist test-dist deb size sizes test-arm test-arm-large

# Where this finds nothing cross/build says what is missing.
cross-tools: rust # Python's venv for the linker, and readelf, where apt can
	@missing=; \
	python3 -c 'import ensurepip' 2>/dev/null || missing="python3-venv"; \
	command -v readelf >/dev/null || missing="$$missing binutils"; \
	[ -n "$$missing" ] && command -v apt-get >/dev/null || exit 0; \
	sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	echo "installing $$missing"; \
	$$sudo apt-get update -q && \
	$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $$missing

cross: cross-tools ## build the static binary for TARGET
	$(CROSS_DIR)/build $(TARGET)

cross-all: cross-tools ## build the static binaries for all targets, and print their sizes
	@for t in $(CROSS_TARGETS); do $(CROSS_DIR)/build "$$t" || exit; done
	@$(MAKE) --no-print-directory sizes

dist: cross-tools ## make target/dist/ftpsd-VERSION-TARGET.tar.gz for TARGET, or for all targets
	@for t in $(TARGETS); do $(CROSS_DIR)/build "$$t" >/dev/null && $(CROSS_DIR)/dist "$$t" || exit; done

test-dist: ## build and pack TARGET twice in two places and compare; install what came out
	tests/dist/run $(TARGET)

deb: ## make the Debian package for TARGET
	@$(MAKE) --no-print-directory dist TARGETS=$(TARGET)
	@$(CROSS_DIR)/packages/debian/build $(CROSS_OUT)/dist/ftpsd-$(VERSION)-$(TARGET).tar.gz $(CROSS_OUT)/packages

size: ## print the size of the stripped release binaries
	@cargo build -q --release --locked
	@bytes=$$(wc -c < $(CROSS_OUT)/release/ftpsd) && printf '%-32s %8d bytes\n' host "$$bytes"
	@$(MAKE) --no-print-directory sizes

sizes: # what size prints, without the host's
	@for t in $(CROSS_TARGETS); do \
		f=$(CROSS_OUT)/cross/$$t/release/ftpsd; \
		if [ -f "$$f" ]; then bytes=$$(wc -c < "$$f"); BUDGET=; . $(CROSS_DIR)/$$t.conf; \
			printf '%-32s %8d bytes%s\n' "$$t" "$$bytes" "$${BUDGET:+ of $$BUDGET}"; \
			[ "$$bytes" -le "$${BUDGET:-$$bytes}" ] || exit; \
		else printf '%-32s not built: make cross TARGET=%s\n' "$$t" "$$t"; fi; \
	done

test-arm: ## run unit and server tests on the ARM binaries, emulated; ARM_TESTS=all for all of them
	@CARGO='$(CARGO)' ARM_TESTS='$(ARM_TESTS)' TEST_OPTIONS='$(TEST_OPTIONS)' tests/arm/run $(ARM_TARGETS)

test-arm-large: ## send 5 GiB both ways with the ARM binaries
	@$(MAKE) --no-print-directory test-arm ARM_TESTS=large:: TEST_OPTIONS='--ignored --nocapture'
