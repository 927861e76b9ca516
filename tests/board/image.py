"""The board's file system in memory: an archive in cpio's "newc" form, written without root."""

import gzip
import lzma
import stat
from pathlib import Path

GUEST = Path(__file__).parent / "guest"
# For the devices of the emulator and, when there is such a disk, its file system. Their dependencies
# come by themselves.
MODULES = {
    "": ["virtio_mmio", "virtio_net", "virtio_blk", "virtio_console"],
    ".data": ["crc32c_generic", "ext4"],
    ".card": ["nls_cp437", "nls_ascii", "nls_utf8", "vfat"],
    ".chip": ["crc32_generic", "f2fs"],
}
PASSWD = """root:x:0:0:root:/:/bin/sh
ftp:x:100:100:ftpsd:/:/bin/false
"""
GROUP = """root:x:0:
ftp:x:100:
"""


class Archive:
    """An archive that grows by files, links and directories; all belong to root."""

    def __init__(self):
        self.bytes = bytearray()
        self.inode = 1
        self.directories = set()

    def _entry(self, path, mode, data=b"", device=(0, 0)):
        name = path.lstrip("/").encode() + b"\0"
        fields = [self.inode, mode, 0, 0, 1, 0, len(data), 0, 0, device[0], device[1], len(name), 0]
        self.inode += 1
        self.bytes += b"070701" + b"".join(b"%08x" % field for field in fields) + name
        self.bytes += bytes(-len(self.bytes) % 4)
        self.bytes += data
        self.bytes += bytes(-len(self.bytes) % 4)

    def directory(self, path):
        """A directory, with those above it."""
        if path in ("", "/") or path in self.directories:
            return
        self.directory(path.rpartition("/")[0])
        self.directories.add(path)
        self._entry(path, stat.S_IFDIR | 0o755)

    def file(self, path, data, mode=0o644):
        """A regular file."""
        self.directory(path.rpartition("/")[0])
        self._entry(path, stat.S_IFREG | mode, data)

    def link(self, path, target):
        """A symbolic link."""
        self.directory(path.rpartition("/")[0])
        self._entry(path, stat.S_IFLNK | 0o777, target.encode())

    def console(self):
        """/dev/console, which init writes to before anything is mounted."""
        self.directory("/dev")
        self._entry("/dev/console", stat.S_IFCHR | 0o600, device=(5, 1))

    def packed(self):
        """The whole archive, compressed. Several can stand one after the other."""
        whole = Archive()
        whole.bytes = bytearray(self.bytes)
        whole._entry("TRAILER!!!", 0)
        whole.bytes += bytes(-len(whole.bytes) % 512)
        return gzip.compress(bytes(whole.bytes), 1, mtime=0)


def module_bytes(path):
    """A module as insmod of BusyBox takes it: not compressed."""
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def modules(armhf):
    """The modules needed, as bytes by their names, and lists of names in the order of loading."""
    files = {}
    for root in (armhf / "lib/modules", armhf / "usr/lib/modules"):
        for path in root.rglob("*.ko*") if root.is_dir() else ():
            files[path.name.split(".")[0].replace("-", "_")] = path
    loaded, lists = {}, {}

    def load(name, order):
        name = name.replace("-", "_")
        if name in order or name not in files:
            # One that is no file is part of the kernel.
            return
        loaded[name] = module_bytes(files[name])
        for field in loaded[name].split(b"\0"):
            if field.startswith(b"depends="):
                for other in filter(None, field[len(b"depends="):].decode().split(",")):
                    load(other, order)
        order.append(name)

    for kind, names in MODULES.items():
        lists[kind] = []
        for name in names:
            load(name, lists[kind])
    return loaded, lists


def base(armhf, binary, init):
    """What is the same for every boot: BusyBox, modules, the server and its files below init/."""
    archive = Archive()
    archive.console()
    busybox = next(path for path in (armhf / "bin/busybox", armhf / "usr/bin/busybox") if path.exists())
    archive.file("/bin/busybox", busybox.read_bytes(), 0o755)
    archive.link("/init", "/bin/busybox")
    for name, path in (("rcS", "/etc/init.d/rcS"), ("S01syslogd", "/etc/init.d/S01syslogd"),
                       ("control", "/sbin/control")):
        archive.file(path, (GUEST / name).read_bytes(), 0o755)
    archive.file("/etc/inittab", (GUEST / "inittab").read_bytes())
    archive.file("/etc/passwd", PASSWD.encode())
    archive.file("/etc/group", GROUP.encode())
    found, lists = modules(armhf)
    for name, data in found.items():
        archive.file(f"/lib/modules/{name}.ko", data)
    for kind, names in lists.items():
        archive.file("/etc/modules" + kind, "".join(name + "\n" for name in names).encode())
    archive.file("/usr/sbin/ftpsd", binary.read_bytes(), 0o755)
    archive.file("/etc/init.d/S50ftpsd", (init / "S50ftpsd").read_bytes(), 0o755)
    archive.file("/usr/share/ftpsd/inittab", (init / "inittab").read_bytes())
    return archive.packed()
