"""Power cuts: what was acknowledged before them must be there, whole, after them."""

import ftplib
import os
import random
import sys
import threading
import time
from dataclasses import dataclass, field

from board import Deadline
from clients import Ftps, digest
from disk import Disk

MIB = 1 << 20
ABSENT = None
# Shares of what was not flushed that a drive has written all the same when the power goes.
SURVIVAL = [0.0, 0.5, 0.0, 0.9]


@dataclass
class Count:
    """What a series of cuts came to."""

    rounds: int = 0
    acknowledged: int = 0
    lost: int = 0
    rounds_with_loss: int = 0
    in_doubt: int = 0
    resumed: int = 0
    blocks_lost: int = 0
    failures: list = field(default_factory=list)


def difference(expected, there):
    """Where two files of bytes differ, in words."""
    if len(expected) != len(there):
        return f"{len(there)} bytes for {len(expected)}"
    page = 4096
    wrong = [start for start in range(0, len(expected), page)
             if expected[start:start + page] != there[start:start + page]]
    if not wrong:
        return "now it has the right ones"
    zeros = all(not any(there[start:start + page]) for start in wrong)
    return (f"{len(wrong)} pages from byte {wrong[0]} to {wrong[-1] + page} of {len(there)} differ"
            + (", all of them zeros" if zeros else ""))


class Cuts:
    """One disk that goes through a series of cuts."""

    def __init__(self, bench, durable, seed):
        self.bench, self.durable = bench, durable
        self.dice = random.Random(seed)
        self.image = bench.ext4("durable.ext4" if durable else "careless.ext4")
        self.disk = Disk(self.image, bench.directory)
        # What each name may be: digests, or ABSENT.
        self.allowed = {}
        # What an interrupted upload was to become.
        self.interrupted = {}
        self.guard = threading.Lock()
        self.count = Count()
        self.board = None
        self.serial = 0
        self.turns = {"after_226": 0, "in_upload": 0}

    # ------------------------------------------------------------ one boot

    def power_on(self):
        """Boot with the disk."""
        self.disk.serve()
        self.board = self.bench.board()
        drive = ["-blockdev",
                 f"driver=nbd,node-name=data,server.type=unix,server.path={self.disk.path},export=",
                 "-device", "virtio-blk-device,drive=data,serial=data"]
        self.bench.power_on(self.board, [drive], self.durable)
        mounts = self.board.run("grep ' /data ext4 ' /proc/mounts")
        assert "noauto_da_alloc" in mounts and "commit=600" in mounts, mounts
        if self.durable and self.count.rounds % 4 > 1:
            # As on a board with less memory: the kernel writes earlier of its own accord.
            self.board.run("echo 2097152 >/proc/sys/vm/dirty_background_bytes")

    def power_off(self, clean=False):
        """End the emulator, cut or not."""
        if self.board is not None:
            if clean:
                self.board.stop()
            self.board.cut()
            self.board = None
        self.disk.stop()

    def cut(self, turn):
        """The power goes now, in the so many-th round of its kind."""
        share = SURVIVAL[turn % len(SURVIVAL)]
        self.count.blocks_lost += self.disk.cut(self.dice.random(), share)
        self.board.cut()
        self.count.rounds += 1

    def session(self):
        """A session that is logged in."""
        return Ftps(self.board.explicit, self.bench.authority(self.board), timeout=60)

    # ------------------------------------------------------------- uploads

    def turn(self, kind):
        """Number of rounds of this kind before this one."""
        self.turns[kind] += 1
        return self.turns[kind] - 1

    def name(self, stem):
        """One that was never used."""
        self.serial += 1
        return f"{stem}-{self.serial:04}"

    def put(self, session, name, data):
        """An upload; from the 226 on the name must have these bytes."""
        new = digest(data)
        with self.guard:
            self.allowed[name] = self.allowed.get(name, {ABSENT}) | {new}
        session.put(name, data)
        with self.guard:
            self.allowed[name] = {new}
            self.count.acknowledged += 1

    def small(self):
        """Bytes of a small file."""
        return self.dice.randbytes(self.dice.choice([1, 100, 4096, 5000, 70001]))

    def after_226(self):
        """Several files, and a cut as soon as the last one's 226 is there: that is by turns a new
        small one, a new large one, one in a new directory, and one that replaces another."""
        turn = self.turn("after_226")
        with self.session() as session:
            old = sorted(name for name, digests in self.allowed.items() if digests != {ABSENT})
            kinds = ["small", "large", "directory", "replaced"]
            last = turn % len(kinds)
            for kind in kinds[last + 1:] + kinds[:last + 1]:
                if kind == "small":
                    for _ in range(3):
                        self.put(session, self.name("small"), self.small())
                elif kind == "large":
                    self.put(session, self.name("large"), self.dice.randbytes(self.dice.randrange(1, 3 * MIB)))
                elif kind == "directory":
                    directory = self.name("directory")
                    session.mkd(directory)
                    self.put(session, f"{directory}/file", self.small())
                elif old:
                    self.put(session, self.dice.choice(old), self.small())
            self.cut(turn)

    def in_upload(self):
        """A large upload and a row of small ones, and a cut at some moment."""
        turn = self.turn("in_upload")
        large = self.name("partial")
        whole = self.dice.randbytes(40 * MIB)
        old = sorted(name for name, digests in self.allowed.items() if digests != {ABSENT})
        if old and turn % 2:
            # The file that it would replace stays as it was.
            large = self.dice.choice(old)
        smalls = [(self.name("row") if self.dice.random() < 0.7 or not old else self.dice.choice(old),
                   self.small()) for _ in range(500)]
        smalls = [(name, data) for name, data in smalls if name != large]
        pauses = [self.dice.choice([0, 0, 0, 0.3]) for _ in smalls]
        begun, ended = threading.Event(), []

        def row(session):
            try:
                for name, data in smalls:
                    self.put(session, name, data)
                    # What one of these syncs may take the large one's size along, ahead of its data.
                    time.sleep(pauses.pop())
            except (OSError, EOFError, ftplib.Error) as error:
                ended.append(error)

        first, second = self.session(), self.session()
        thread = threading.Thread(target=row, args=(second,), daemon=True)
        pause = self.dice.uniform(0.3, 3.0)
        power = threading.Event()

        def switch():
            begun.wait(60)
            time.sleep(pause)
            self.cut(turn)
            power.set()

        cutter = threading.Thread(target=switch, daemon=True)
        cutter.start()
        thread.start()
        try:
            upload = first.begin_put(large)
            begun.set()
            for start in range(0, len(whole), 65536):
                upload.sendall(whole[start:start + 65536])
            # The whole was faster than the cut; without its end it is none.
            power.wait(60)
        except (OSError, EOFError, ftplib.Error) as error:
            ended.append(error)
        begun.set()
        cutter.join(90)
        thread.join(90)
        if cutter.is_alive() or thread.is_alive():
            raise AssertionError("the cut did not end the sessions")
        first.close()
        second.close()
        self.interrupted[large] = whole

    # --------------------------------------------------------------- after

    def look(self):
        """After the boot: compare what is there with what may be there."""
        errors = self.board.run("dmesg | grep -E 'EXT4-fs (error|warning)' || :")
        if errors:
            self.count.failures.append("the file system is damaged: " + errors)
        listing = self.board.run("cd /data/ftp && find . -type f ! -name '.ftpsd-*' -exec sha256sum {} +", 300)
        found = {line[66:].removeprefix("./"): line[:64] for line in listing.splitlines()}
        lost = 0
        for name, digests in self.allowed.items():
            there = found.pop(name, ABSENT)
            self.count.in_doubt += len(digests) > 1
            if there not in digests:
                lost += 1
                if self.durable:
                    what = "absent" if there is ABSENT else "other bytes"
                    self.count.failures.append(f"{name}: {what} after cut {self.count.rounds}")
            self.allowed[name] = {there}
        for name in found:
            self.count.failures.append(f"{name}: a name that nobody was told of, after cut {self.count.rounds}")
        self.allowed = {name: digests for name, digests in self.allowed.items() if digests != {ABSENT}}
        self.count.lost += lost
        self.count.rounds_with_loss += lost > 0

    def resume(self):
        """Uploads that were cut go on where they were, or begin again."""
        with self.session() as session:
            for name, whole in self.interrupted.items():
                session.voidcmd("TYPE I")
                rest = 0
                if name not in self.allowed:
                    try:
                        rest = session.size(name)
                    except ftplib.error_perm:
                        pass
                end = min(len(whole), rest + MIB)
                if rest > end:
                    self.count.failures.append(f"{name}: a partial of {rest} bytes")
                if name in self.allowed:
                    # Its name answers for the published file: a new upload is what is left.
                    whole, rest, end = whole[:MIB], 0, MIB
                session.put(name, whole[rest:end], rest=rest or None)
                self.count.resumed += rest > 0
                self.allowed[name] = {digest(whole[:end])}
                if self.board.run(f"sha256sum '/data/ftp/{name}'").split()[0] != digest(whole[:end]):
                    what = difference(whole[:end], session.fetch(name))
                    self.count.failures.append(
                        f"{name}: resumed at {rest} after cut {self.count.rounds}, 226, but {what}")
        self.interrupted = {}

    def tidy(self):
        """Keep room for the next rounds."""
        with self.session() as session:
            for name in sorted(self.allowed):
                if name.startswith(("large", "partial")):
                    session.delete(name)
                    del self.allowed[name]

    def series(self, rounds, until_loss=False):
        """So many cuts, in the form given by `rounds`: a list of methods."""
        limit = Deadline(90 * (len(rounds) + 1), "the power cuts")
        try:
            for action in [*rounds, None]:
                limit.left()
                self.power_on()
                if self.count.rounds:
                    self.look()
                    print(f"board: cut {self.count.rounds} of {len(rounds)}: {self.count}", file=sys.stderr, flush=True)
                    if self.durable:
                        self.resume()
                        self.tidy()
                if action is None or (until_loss and self.count.lost):
                    self.power_off(clean=True)
                    break
                action()
                self.power_off()
        except BaseException:
            if self.board is not None:
                print(self.board.last_words(), file=sys.stderr)
            raise
        finally:
            self.power_off()
            os.close(self.disk.image)
            self.disk.image = None
        return self.count
