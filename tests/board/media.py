"""What the board's disks are formatted with."""

import subprocess
from dataclasses import dataclass


@dataclass(frozen=True)
class Medium:
    """One file system, and how the board uses it."""

    kind: str
    # As guest/rcS knows it.
    serial: str
    mebibytes: int
    make: tuple
    # Who has it as root, and where that is in the board.
    user: str
    place: str
    # What /proc/mounts must say of it.
    options: tuple
    # What of the kernel's messages would be a sign of damage, and whether that is a failure.
    damage: str
    damage_fails: bool
    # Whether a partial can be sealed, and a name be made in one step with what it names.
    seals: bool
    # What checks the image without changing it.
    check: tuple
    # What mends it before each boot, as a board's scripts do it; none mounts it as it is.
    mend: tuple = ()
    # What does where that gives up.
    mend_more: tuple = ()

    def checked(self, image):
        """What the check says; nothing where all is well."""
        done = subprocess.run([*self.check, image], timeout=600, check=False, text=True, errors="replace",
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return done.stdout if done.returncode else ""

    def mended(self, image):
        """Mends the image, if that is done here; tells whether there was something to mend."""
        if not self.mend:
            return False
        for command in filter(None, (self.mend, self.mend_more)):
            done = subprocess.run([*command, image], timeout=600, check=False, text=True, errors="replace",
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            if done.returncode in (0, 1):
                return done.returncode == 1
        raise AssertionError(f"{' '.join(command)}: status {done.returncode}: {done.stdout}")


EXT4 = Medium(
    kind="ext4", serial="data", mebibytes=192, user="operator", place="/data/ftp",
    # The size of blocks is that of larger disks; nothing is left to be initialised later.
    make=("mkfs.ext4", "-q", "-F", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0"),
    options=(" /data ext4 ", "noauto_da_alloc", "commit=600"),
    damage="EXT4-fs (error|warning)", damage_fails=True, seals=True,
    check=("e2fsck", "-f", "-n"),
    # The kernel mounts none whose last commit block was torn ("journal transaction is corrupt"), which
    # happens about once in 200 cuts. Nothing that was synced is in that transaction.
    mend=("e2fsck", "-p"), mend_more=("e2fsck", "-f", "-y"))

# Clusters as on larger cards.
VFAT = Medium(
    kind="vfat", serial="card", mebibytes=320, user="card", place="/card",
    make=("mkfs.vfat", "-F", "32", "-s", "8", "-n", "CARD"),
    options=(" /card vfat ",),
    damage="FAT-fs .*(error|read-only)", damage_fails=False, seals=False,
    check=("fsck.vfat", "-n"))
# As on eMMC.
F2FS = Medium(
    kind="f2fs", serial="chip", mebibytes=256, user="card", place="/card",
    make=("mkfs.f2fs", "-q"), options=(" /card f2fs ",),
    damage="F2FS-fs .*([Ii]nconsistent|corrupt|error)", damage_fails=True, seals=True,
    check=("fsck.f2fs", "--dry-run", "-f"))
VFAT_MENDED = Medium(**{**VFAT.__dict__, "kind": "vfat-mended", "mend": ("fsck.vfat", "-a", "-w")})
