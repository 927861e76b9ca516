################################################################################
#
# ftpsd
#
################################################################################

FTPSD_VERSION = 0.1.0
# Its own, then those of what is linked.
FTPSD_LICENSE = MIT or Apache-2.0, MIT, Apache-2.0, ISC, BSD-3-Clause
FTPSD_LICENSE_FILES = LICENSE-MIT LICENSE-APACHE

FTPSD_RUST_TARGET = $(call qstrip,$(BR2_PACKAGE_FTPSD_TARGET))
FTPSD_CONFIG = $(call qstrip,$(BR2_PACKAGE_FTPSD_CONFIG))

FTPSD_DIST = $(call qstrip,$(BR2_PACKAGE_FTPSD_DIST))

ifeq ($(FTPSD_DIST),)
# The sources that this external tree is part of.
FTPSD_SITE = $(BR2_EXTERNAL_FTPSD_PATH)/../../..
FTPSD_SITE_METHOD = local
FTPSD_OVERRIDE_SRCDIR_RSYNC_EXCLUSIONS = --exclude target
FTPSD_BINARY = target/cross/$(FTPSD_RUST_TARGET)/release/ftpsd

define FTPSD_BUILD_CMDS
	cd $(@D) && CARGO_TARGET_DIR=$(@D)/target ./cross/build $(FTPSD_RUST_TARGET)
endef
else
FTPSD_SITE = $(FTPSD_DIST)
FTPSD_SITE_METHOD = file
FTPSD_SOURCE = ftpsd-$(FTPSD_VERSION)-$(FTPSD_RUST_TARGET).tar.gz
FTPSD_BINARY = ftpsd
FTPSD_LICENSE_FILES += LICENSES-OF-OTHERS
endif

define FTPSD_INSTALL_CONFIG
	$(INSTALL) -D -m 0640 $(FTPSD_CONFIG) $(TARGET_DIR)/etc/ftpsd.toml
endef

define FTPSD_INSTALL_TARGET_CMDS
	$(INSTALL) -D -m 0755 $(@D)/$(FTPSD_BINARY) $(TARGET_DIR)/usr/sbin/ftpsd
	$(INSTALL) -d -m 0755 $(TARGET_DIR)/usr/share/ftpsd
	$(INSTALL) -m 0755 $(addprefix $(@D)/init/,add-account import-vsftpd selftest setup) \
		$(TARGET_DIR)/usr/share/ftpsd/
	$(INSTALL) -m 0644 $(@D)/init/ftpsd.toml $(TARGET_DIR)/usr/share/ftpsd/ftpsd.toml
	$(if $(FTPSD_CONFIG),$(FTPSD_INSTALL_CONFIG))
endef

define FTPSD_INSTALL_INIT_SYSV
	$(INSTALL) -D -m 0755 $(@D)/init/S50ftpsd $(TARGET_DIR)/etc/init.d/S50ftpsd
endef

define FTPSD_INSTALL_INIT_OPENRC
	$(INSTALL) -D -m 0755 $(@D)/init/ftpsd.openrc $(TARGET_DIR)/etc/init.d/ftpsd
endef

define FTPSD_INSTALL_INIT_SYSTEMD
	$(INSTALL) -D -m 0644 $(@D)/init/ftpsd.service \
		$(TARGET_DIR)/usr/lib/systemd/system/ftpsd.service
endef

define FTPSD_USERS
	ftp -1 ftp -1 * /srv/ftp - - ftpsd
endef

# The account reads it at a reload.
define FTPSD_PERMISSIONS
	$(if $(FTPSD_CONFIG),/etc/ftpsd.toml f 640 root ftp - - - - -)
endef

$(eval $(generic-package))
