# Building for the devices. Included by the Makefile one directory up.
#
# TARGET is one of the .conf files in this directory, without the suffix.

TARGET ?= armv7-unknown-linux-musleabihf

CROSS_DIR := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))
CROSS_TARGETS := $(sort $(basename $(notdir $(wildcard $(CROSS_DIR)/*.conf))))
CROSS_OUT := $(or $(CARGO_TARGET_DIR),target)

# What test-arm runs on, the one that differs most first; ARM_TESTS chooses among the tests.
ARM_TARGETS ?= armv5te-unknown-linux-musleabi armv7-unknown-linux-musleabihf aarch64-unknown-linux-musl

.PHONY: cross cross-all deb size test-arm test-arm-large

cross: ## build the static binary for TARGET
	$(CROSS_DIR)/build $(TARGET)

cross-all: ## build the static binaries for all targets
	@for t in $(CROSS_TARGETS); do $(CROSS_DIR)/build "$$t" || exit; done

deb: ## make the Debian package for TARGET
	$(CROSS_DIR)/packages/debian/build $(TARGET)

size: ## print the size of the stripped release binaries
	@cargo build -q --release --locked
	@bytes=$$(wc -c < $(CROSS_OUT)/release/ftpsd) && printf '%-32s %8d bytes\n' host "$$bytes"
	@for t in $(CROSS_TARGETS); do \
		f=$(CROSS_OUT)/cross/$$t/release/ftpsd; \
		if [ -f "$$f" ]; then bytes=$$(wc -c < "$$f"); printf '%-32s %8d bytes\n' "$$t" "$$bytes"; \
		else printf '%-32s not built: make cross TARGET=%s\n' "$$t" "$$t"; fi; \
	done

test-arm: ## run unit and server tests on the ARM binaries, emulated; ARM_TESTS=all for all of them
	@CARGO='$(CARGO)' ARM_TESTS='$(ARM_TESTS)' TEST_OPTIONS='$(TEST_OPTIONS)' tests/arm/run $(ARM_TARGETS)

test-arm-large: ## send 5 GiB both ways with the ARM binaries
	@$(MAKE) --no-print-directory test-arm ARM_TESTS=large:: TEST_OPTIONS='--ignored --nocapture'
