# Building for the devices. Included by the Makefile one directory up.
#
# TARGET is one of the .conf files in this directory, without the suffix.

TARGET ?= armv7-unknown-linux-musleabihf

CROSS_DIR := $(patsubst %/,%,$(dir $(lastword $(MAKEFILE_LIST))))
CROSS_TARGETS := $(sort $(basename $(notdir $(wildcard $(CROSS_DIR)/*.conf))))
CROSS_OUT := $(or $(CARGO_TARGET_DIR),target)

.PHONY: cross cross-all deb size

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
