#!/bin/sh
# Installs ftpsd from the directory that this file is in. Only what BusyBox has is needed.
#
#   sh install.sh [INIT]
#
# INIT is busybox, sysv, openrc, openwrt, systemd or none; found out unless told. With
# DESTDIR=/path/of/image it goes into the tree of an image. No /etc/ftpsd.toml is written, for
# /usr/share/ftpsd/setup does that; and nothing is started: a server that runs goes on as it is until its
# restart. When the power fails meanwhile, each file is the old one or the new one.
set -eu
cd "$(dirname "$0")"
umask 022
root=${DESTDIR:-}

die() {
    echo "install.sh: $*" >&2
    exit 1
}

case $root in
    '' | /*) ;;
    *) die "DESTDIR must begin with /: $root" ;;
esac

# What is new, beside where it goes. When the power fails it stays there, and rcS starts what is called
# /etc/init.d/S??*: so it is hidden.
new() { echo "$root${1%/*}/.${1##*/}.new"; }

# stage FILE MODE PLACE
stage() {
    mkdir -p "$root${3%/*}"
    if ! cp "$1" "$(new "$3")" || ! chmod "$2" "$(new "$3")"; then
        # The half of it on a full medium.
        rm -f "$(new "$3")"
        die "$root$3 stays as it is"
    fi
}

# place PLACE: by one rename, also over a program that runs. Without the sync a power cut could leave
# the new name and no bytes.
place() {
    sync
    mv -f "$(new "$1")" "$root$1"
    echo "$root$1"
}

put() {
    stage "$@"
    place "$3"
}

if command -v sha256sum >/dev/null; then
    sha256sum -c SHA256SUMS >/dev/null || die "a file is not what it was when it was packed"
fi

init=${1:-}
if [ -z "$init" ]; then
    if [ -e "$root/etc/rc.common" ]; then
        init=openwrt
    elif readlink "$root/sbin/init" | grep -q systemd; then
        init=systemd
    elif [ -e "$root/sbin/openrc-run" ]; then
        init=openrc
    elif [ -d "$root/etc/rc2.d" ] || [ -d "$root/etc/rc.d/rc2.d" ]; then
        init=sysv
    elif [ -d "$root/etc/init.d" ]; then
        init=busybox
    else
        init=none
    fi
fi
case $init in
    busybox) from=S50ftpsd mode=755 to=/etc/init.d/S50ftpsd ;;
    sysv) from=S50ftpsd mode=755 to=/etc/init.d/ftpsd ;;
    openrc) from=ftpsd.openrc mode=755 to=/etc/init.d/ftpsd ;;
    openwrt) from=ftpsd.procd mode=755 to=/etc/init.d/ftpsd ;;
    systemd) from=ftpsd.service mode=644 to=/etc/systemd/system/ftpsd.service ;;
    none) to= ;;
    *) die "INIT may be busybox, sysv, openrc, openwrt, systemd or none, not $init" ;;
esac
if [ "$init" = busybox ]; then
    # One that is there keeps its name: beside a line in inittab, rcS must not start a second server.
    for there in "$root/etc/init.d/ftpsd" "$root"/etc/init.d/S[0-9][0-9]ftpsd; do
        [ ! -e "$there" ] || to=${there#"$root"}
    done
fi

# It is tried where it will be, for no program can run in a /tmp that is mounted noexec.
stage ftpsd 755 /usr/sbin/ftpsd
if [ -z "$root" ] && ! "$(new /usr/sbin/ftpsd)" -V >/dev/null; then
    rm -f "$(new /usr/sbin/ftpsd)"
    die "this binary is for another processor than $(uname -m)"
fi
place /usr/sbin/ftpsd
put init/ftpsd.toml 644 /usr/share/ftpsd/ftpsd.toml
for script in add-account import-vsftpd selftest setup; do
    put "init/$script" 755 "/usr/share/ftpsd/$script"
done
if [ -d "$root/usr/share/man" ]; then
    put man/ftpsd.8 644 /usr/share/man/man8/ftpsd.8
    put man/ftpsd.conf.5 644 /usr/share/man/man5/ftpsd.conf.5
fi
[ -z "$to" ] || put "init/$from" "$mode" "$to"
ROOT=$root sh init/add-account ftp /srv/ftp

sync

config=$root/etc/ftpsd.toml
# A link to what is not mounted now is one, too.
if [ -e "$config" ] || [ -L "$config" ]; then
    echo "$config stays as it is; restart the server for the new version"
    exit
fi
# None is written here: without a user who can log in it would be of no use.
echo
if [ -n "$root" ]; then
    echo "There is no $config yet: put one there, or run on the device"
else
    echo "There is no $config yet, so nothing serves. Next:"
fi
echo "  /usr/share/ftpsd/setup            makes one with a user and a password, and starts the server"
if [ -z "$root" ] && [ -f /etc/vsftpd.conf ]; then
    echo "or, to go on with what vsftpd did,"
    echo "  /usr/share/ftpsd/import-vsftpd -o /etc/ftpsd.toml"
fi
