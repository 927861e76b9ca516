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

# What runs on the 32-bit ARM binary, under qemu-user; TESTS adds to it or takes its place.
ARM := armv7-unknown-linux-musleabihf
TESTS ?= sizes:: times:: calendar:: directories:: commands:: names:: large:: room:: storage:: \
	shares:: stale:: rivals:: resume::

.PHONY: cross cross-all dist test-dist deb size sizes test-arm test-arm-large

cross: ## build the static binary for TARGET
	$(CROSS_DIR)/build $(TARGET)

cross-all: ## build the static binaries for all targets, and print their sizes
	@for t in $(CROSS_TARGETS); do $(CROSS_DIR)/build "$$t" || exit; done
	@$(MAKE) --no-print-directory sizes

dist: ## make target/dist/ftpsd-VERSION-TARGET.tar.gz for TARGET, or for all targets
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

# Only Debian's qemu-user can be told another time: a static emulator takes no library.
test-arm: ## run the tests of files, sizes and times on the 32-bit ARM binary, emulated
	@$(CROSS_DIR)/build $(ARM)
	@. $(CROSS_DIR)/$(ARM).conf; tests='$(TESTS)'; runner="$$QEMU"; \
	if ! command -v "$$runner" >/dev/null; then \
		runner="$$QEMU-static"; \
		command -v "$$runner" >/dev/null || { echo "install qemu-user" >&2; exit 1; }; \
		case $$tests in *calendar::*) \
			echo "NOT RUN: calendar, because $$runner cannot be told the time; install qemu-user" >&2; \
			tests=$$(echo "$$tests" | sed 's/calendar:://');; \
		esac; \
	fi; \
	FTPSD_RESUME_BREAKS=$${FTPSD_RESUME_BREAKS:-5} \
	FTPSD_BINARY=$(abspath $(CROSS_OUT))/cross/$(ARM)/release/ftpsd FTPSD_RUNNER="$$runner -cpu $$QEMU_CPU" \
		$(CARGO) test --locked --test server -- $(TEST_OPTIONS) $$tests

test-arm-large: ## send 5 GiB both ways with the 32-bit ARM binary
	@$(MAKE) --no-print-directory test-arm TESTS=large:: TEST_OPTIONS='--ignored --nocapture'
