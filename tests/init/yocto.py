"""Has BitBake, the library, read the layer, fetch and unpack what the recipe names, and runs do_install.

    yocto.py LAYER DIRECTORY-OF-TARS WORK

Stubs are in the place of the classes of OpenEmbedded. What is installed is in WORK/image.
"""

import os
import pathlib
import subprocess
import sys
import types

# Servers that are not in the package, and not needed.
for absent in ("hashserv", "hashserv.client", "prserv"):
    sys.modules[absent] = types.ModuleType(absent)

import bb.data  # noqa: E402
import bb.event  # noqa: E402
import bb.fetch2  # noqa: E402
import bb.parse  # noqa: E402
import bb.siggen  # noqa: E402
import bb.utils  # noqa: E402

LAYER, TARS, WORK = (pathlib.Path(argument).resolve() for argument in sys.argv[1:])
# As OpenEmbedded's bitbake.conf has them.
CONF = {
    "__bbclasstype": "recipe",
    "PN": "${@bb.parse.vars_from_file(d.getVar('FILE', False), d)[0]}",
    "PV": "${@bb.parse.vars_from_file(d.getVar('FILE', False), d)[1]}",
    "OVERRIDES": "${TARGET_ARCH}:pn-${PN}",
    "FILESPATH": "${FILESEXTRAPATHS}",
    "DL_DIR": f"{WORK}/downloads",
    "PERSISTENT_DIR": f"{WORK}/persistent",
    "WORKDIR": f"{WORK}/work",
    "UNPACKDIR": f"{WORK}/work/sources",
    "D": f"{WORK}/image",
    "sbindir": "/usr/sbin",
    "datadir": "/usr/share",
    "sysconfdir": "/etc",
    "systemd_system_unitdir": "/usr/lib/systemd/system",
    "FTPSD_DIST": str(TARS),
    "FILESEXTRAPATHS": "__default:",
}
MACHINES = {
    ("aarch64", "aarch64 cortexa53"): "aarch64-unknown-linux-musl",
    ("x86-64", "m64"): "x86_64-unknown-linux-musl",
    ("arm", "arm armv7a vfp thumb neon callconvention-hard"): "armv7-unknown-linux-musleabihf",
    ("arm", "arm vfp cortexa7 neon"): "armv7-unknown-linux-musleabihf",
    ("arm", "arm armv6 vfp arm1176jzfs"): "arm-unknown-linux-musleabi",
    ("arm", "arm armv5 thumb dsp arm926ejs"): "armv5te-unknown-linux-musleabi",
}


def recipe(architecture, features):
    data = bb.data.init()
    for name, value in CONF.items():
        data.setVar(name, value)
    data.setVar("TARGET_ARCH", architecture)
    data.setVar("TUNE_FEATURES", features)
    data.setVar("BBPATH", f"{WORK}/stubs")
    data.setVar("TOPDIR", str(WORK))
    data.setVar("PATH", os.environ["PATH"])
    bb.parse.init_parser(data)
    data.setVar("LAYERDIR", str(LAYER))
    data = bb.parse.handle(str(LAYER / "conf/layer.conf"), data, True)
    data.expandVarref("LAYERDIR")
    (file,) = LAYER.glob("recipes-*/*/*.bb")
    return bb.parse.handle(str(file), data)[""]


def main():
    classes = WORK / "stubs/classes"
    classes.mkdir(parents=True)
    for name in ("base", "systemd", "update-rc.d", "useradd"):
        (classes / f"{name}.bbclass").write_text("")
    (WORK / "work/sources").mkdir(parents=True)
    for (architecture, features), target in MACHINES.items():
        data = recipe(architecture, features)
        found = data.getVar("FTPSD_TARGET")
        assert found == target, (features, found)
        name = f"ftpsd-{data.getVar('PV')}-{target}"
        assert data.getVar("SRC_URI").strip() == f"file://{name}.tar.gz", data.getVar("SRC_URI")
        assert data.getVar("S").endswith(f"/{name}"), data.getVar("S")

    data = recipe("arm", "arm armv7a vfp")
    fetch = bb.fetch2.Fetch(data.getVar("SRC_URI").split(), data)
    fetch.download()
    fetch.unpack(data.getVar("UNPACKDIR"))
    sums = data.getVar("LIC_FILES_CHKSUM").split()
    assert len(sums) == 2, sums
    for entry in sums:
        _, _, file, _, _, parameters = bb.fetch2.decodeurl(entry)
        path = os.path.join(data.getVar("S"), file.lstrip("/"))
        assert bb.utils.md5_file(path) == parameters["md5"], path
    # There is no account ftp, and nobody need be root.
    script = "install() { command install $(echo \" $* \" | sed 's/ -[og] ftp / /g; s/ -[og] ftp / /g'); }\n"
    script += data.expand(data.getVar("do_install"))
    subprocess.run(["sh", "-euc", script], check=True)
    print("BitBake", bb.__version__)


main()
