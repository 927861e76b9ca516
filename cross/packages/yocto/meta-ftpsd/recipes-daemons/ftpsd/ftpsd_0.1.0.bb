SUMMARY = "FTP server over TLS for small Linux devices"
DESCRIPTION = "Serves files by FTP over TLS to users of its own that one configuration file names."
SECTION = "network"
# Its own, then those of what is linked; LICENSES-OF-OTHERS in the tar has their texts.
LICENSE = "(MIT | Apache-2.0) & MIT & Apache-2.0 & ISC & BSD-3-Clause"
LIC_FILES_CHKSUM = "\
    file://LICENSE-MIT;md5=6166b13452d4d294aee58b3c9b5f52c5 \
    file://LICENSE-APACHE;md5=1836efb2eb779966696f473ee8540542 \
"

# The program is static, and made by `make dist TARGET=...` before: with Rust as Yocto has it, 32-bit
# programs fail in 2038.
FTPSD_TARGET ?= ""
FTPSD_TARGET:aarch64 ?= "aarch64-unknown-linux-musl"
FTPSD_TARGET:x86-64 ?= "x86_64-unknown-linux-musl"
FTPSD_TARGET:arm ?= "${@bb.utils.contains('TUNE_FEATURES', 'armv7a', \
    'armv7-unknown-linux-musleabihf', bb.utils.contains_any('TUNE_FEATURES', 'armv7ve cortexa7', \
    'armv7-unknown-linux-musleabihf', bb.utils.contains('TUNE_FEATURES', 'armv6', \
    'arm-unknown-linux-musleabi', 'armv5te-unknown-linux-musleabi', d), d), d)}"

FILESEXTRAPATHS:prepend := "${FTPSD_DIST}:"
SRC_URI = "file://ftpsd-${PV}-${FTPSD_TARGET}.tar.gz"

# Files are unpacked to WORKDIR before Yocto 5.1.
UNPACKDIR ??= "${WORKDIR}"
S = "${UNPACKDIR}/ftpsd-${PV}-${FTPSD_TARGET}"

inherit systemd update-rc.d useradd

COMPATIBLE_HOST = "(aarch64|x86_64|arm).*-linux"

USERADD_PACKAGES = "${PN}"
GROUPADD_PARAM:${PN} = "--system ftp"
USERADD_PARAM:${PN} = "--system --gid ftp --home-dir /srv/ftp --no-create-home --shell /bin/false ftp"

INITSCRIPT_NAME = "ftpsd"
INITSCRIPT_PARAMS = "defaults 50"
SYSTEMD_SERVICE:${PN} = "ftpsd.service"

do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    install -D -m 0755 ${S}/ftpsd ${D}${sbindir}/ftpsd
    install -D -m 0644 ${S}/init/ftpsd.toml ${D}${datadir}/ftpsd/ftpsd.toml
    for script in add-account import-vsftpd selftest setup; do
        install -m 0755 ${S}/init/$script ${D}${datadir}/ftpsd/$script
    done
    install -D -m 0755 ${S}/init/S50ftpsd ${D}${sysconfdir}/init.d/ftpsd
    install -D -m 0644 ${S}/init/ftpsd.service ${D}${systemd_system_unitdir}/ftpsd.service
    install -d -m 0750 -o ftp -g ftp ${D}/srv/ftp
}

FILES:${PN} += "/srv/ftp"

# It is static and stripped.
INHIBIT_PACKAGE_STRIP = "1"
INHIBIT_PACKAGE_DEBUG_SPLIT = "1"
INSANE_SKIP:${PN} += "already-stripped ldflags"
