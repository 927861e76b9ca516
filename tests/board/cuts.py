"""Power cuts: what was acknowledged before them must be there, whole, after them."""

import ftplib
import io
import os
import random
import sys
import threading
import time
from dataclasses import dataclass, field

from clients import Ftps, digest
from disk import Disk
from media import EXT4

MIB = 1 << 20
ABSENT = None
EMPTY = digest(b"")
# Seconds that the drive takes to empty its cache, at most; a cut then is in the middle of a sync.
SLOWEST_FLUSH = 0.04
# Seconds for what takes a few; where another limit is missed first, that one tells more.
WAIT = 600
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
    # Names that were deleted, and came back.
    returned: int = 0
    # New ones that were not acknowledged, and are empty.
    empty: int = 0
    # Boots that found the file system damaged; images that had to be mended.
    damaged: int = 0
    mended: int = 0
    unreadable: list = field(default_factory=list)
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

    def __init__(self, bench, durable, medium=EXT4):
        self.bench, self.durable, self.medium = bench, durable, medium
        self.dice = random.Random(bench.seed)
        self.image = bench.make_disk(f"cuts.{medium.kind}", medium)
        self.disk = Disk(self.image, bench.directory, SLOWEST_FLUSH if durable else 0)
        # What each name may be: digests, or ABSENT.
        self.allowed = {}
        # What an interrupted upload was to become.
        self.interrupted = {}
        # What SIZE must say of one that the client had broken off before.
        self.sealed = {}
        self.deleted = set()
        self.guard = threading.Lock()
        self.count = Count()
        self.board = None
        self.serial = 0
        self.turns = {"after_226": 0, "in_upload": 0}

    # ------------------------------------------------------------ one boot

    def power_on(self):
        """Boot with the disk."""
        self.count.mended += self.medium.mended(self.image)
        self.disk.serve()
        self.board = self.bench.board()
        drive = ["-blockdev",
                 f"driver=nbd,node-name=disk,server.type=unix,server.path={self.disk.path},export=",
                 "-device", f"virtio-blk-device,drive=disk,serial={self.medium.serial}"]
        self.bench.power_on(self.board, [drive], self.durable)
        mounts = self.board.run(f"grep ' {self.medium.place.removesuffix('/ftp')} ' /proc/mounts")
        assert all(word in mounts for word in self.medium.options), mounts
        if self.durable and self.count.rounds // 2 % 3 == 1:
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
        # Each kind of file meets each of them in time.
        share = SURVIVAL[(turn + turn // len(SURVIVAL)) % len(SURVIVAL)]
        self.count.blocks_lost += self.disk.cut(self.dice.random(), share)
        self.board.cut()
        self.count.rounds += 1

    def session(self):
        """A session that is logged in."""
        return Ftps(self.board.explicit, self.bench.authority(self.board), user=self.medium.user)

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

    def published(self):
        """The names that have a file."""
        return sorted(name for name, digests in self.allowed.items() if digests != {ABSENT})

    def small(self):
        """Bytes of a small file."""
        return self.dice.randbytes(self.dice.choice([1, 100, 4096, 5000, 70001]))

    def after_226(self):
        """Several files, and a cut as soon as the last one's 226 is there: that is by turns one that
        replaces another, a new small one, one in a new directory, and a new large one."""
        turn = self.turn("after_226")
        with self.session() as session:
            if not self.published():
                self.put(session, self.name("small"), self.small())
            # What frees room in one directory for a file in another; the directory itself stays.
            for name in [name for name in self.published() if "/" in name]:
                session.delete(name)
                del self.allowed[name]
                self.deleted.add(name)
            kinds = ["replaced", "small", "directory", "large"]
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
                else:
                    self.put(session, self.dice.choice(self.published()), self.small())
            self.cut(turn)

    def in_upload(self):
        """A large upload and a row of small ones, and a cut at some moment; before them one that the
        client has broken off."""
        turn = self.turn("in_upload")
        large, old = self.name("partial"), self.published()
        whole = self.dice.randbytes(40 * MIB)
        if old and turn % 2:
            # The file that it would replace stays as it was.
            large = self.dice.choice(old)
        smalls = [(self.name("row") if self.dice.random() < 0.7 or not old else self.dice.choice(old),
                   self.small()) for _ in range(500)]
        smalls = [(name, data) for name, data in smalls if name != large]
        pauses = [self.dice.choice([0, 0, 0, 0.3]) for _ in smalls]
        # Below the first of the periodic syncs, or after one or two of them.
        enough = self.dice.randrange(7 * MIB) if self.dice.random() < 0.3 else self.dice.randrange(7 * MIB, 24 * MIB)
        reached, power, ended = threading.Event(), threading.Event(), []

        def in_peace(error):
            # While the power goes the board may still say that its disk does not answer.
            if not self.disk.dead:
                ended.append(error)

        def row(session):
            try:
                for name, data in smalls:
                    self.put(session, name, data)
                    # What one of these syncs may take the large one's size along, ahead of its data.
                    time.sleep(pauses.pop())
            except (OSError, EOFError, ftplib.Error) as error:
                in_peace(error)

        def switch(pause):
            reached.wait(WAIT)
            time.sleep(pause)
            self.cut(turn)
            power.set()

        first, second = self.session(), self.session()
        self.break_off(first)
        threads = [threading.Thread(target=row, args=(second,), daemon=True),
                   threading.Thread(target=switch, args=(self.dice.uniform(0, 0.5),), daemon=True)]
        for thread in threads:
            thread.start()
        try:
            upload = first.begin_put(large)
            for start in range(0, len(whole), 65536):
                if start >= enough:
                    reached.set()
                upload.sendall(whole[start:start + 65536])
            # The whole was faster than the cut; without its end it is none.
            power.wait(WAIT)
        except (OSError, EOFError, ftplib.Error) as error:
            in_peace(error)
        reached.set()
        for thread in threads:
            thread.join(WAIT)
        if any(thread.is_alive() for thread in threads):
            raise AssertionError("the cut did not end the sessions")
        first.close()
        second.close()
        if ended:
            raise AssertionError("a session ended before the cut") from ended[0]
        self.interrupted[large] = whole

    def break_off(self, session):
        """An upload without an end. Where there are seals all of it can be resumed, power cut or not."""
        name, length = self.name("partial"), self.dice.choice([5000, MIB, MIB + 4097, 9 * MIB])
        whole = self.dice.randbytes(length + MIB)
        reply = session.try_put(name, whole[:length], whole=False)
        assert reply.startswith("426"), reply
        self.interrupted[name] = whole
        if self.medium.seals:
            self.sealed[name] = length - 1

    # --------------------------------------------------------------- after

    def look(self):
        """After the boot: compare what is there with what may be there. Of the long name of a partial
        vfat may have kept the short form alone."""
        self.damage()
        listing = self.board.run(f"cd {self.medium.place} && find . -type f ! -name '.ftpsd-*' ! -iname 'ftpsd-~*' "
                                 "-exec sha256sum {} + 2>&1 || :", 300)
        found = {}
        for line in listing.splitlines():
            if line[66:].startswith("./FSCK"):
                # What belonged to nothing, as fsck.vfat keeps it.
                continue
            if line[64:66] == "  ":
                found[line[66:].removeprefix("./")] = line[:64]
            else:
                self.count.unreadable.append(line)
        lost = 0
        for name, digests in self.allowed.items():
            there = found.pop(name, ABSENT)
            self.count.in_doubt += len(digests) > 1
            if there == EMPTY and ABSENT in digests and not self.medium.seals:
                # FAT cannot make a name and say what it has in one step.
                self.count.empty += 1
            elif there not in digests:
                lost += 1
                if self.durable:
                    what = "absent" if there is ABSENT else "other bytes"
                    when = "replacing it was under way" if len(digests) > 1 else "acknowledged"
                    self.count.failures.append(f"{name}: {what} after cut {self.count.rounds}, {when}")
            self.allowed[name] = {there}
        for name, there in found.items():
            if name not in self.deleted:
                self.count.failures.append(
                    f"{name}: a name that nobody was told of, after cut {self.count.rounds}")
            # Nobody promised that what was deleted stays so.
            self.allowed[name] = {there}
            self.count.returned += 1
        self.deleted = set()
        self.allowed = {name: digests for name, digests in self.allowed.items() if digests != {ABSENT}}
        self.count.lost += lost
        self.count.rounds_with_loss += lost > 0

    def damage(self):
        """What the kernel says of the file system."""
        said = self.board.run(f"dmesg | grep -E '{self.medium.damage}' || :")
        self.count.damaged += bool(said)
        if said and self.medium.damage_fails:
            self.count.failures.append(f"the file system is damaged after cut {self.count.rounds}: {said}")
        elif said:
            print(f"board: cut {self.count.rounds}: {said}", file=sys.stderr, flush=True)

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
                if rest != self.sealed.get(name, rest):
                    self.count.failures.append(
                        f"{name}: a partial of {rest} bytes after cut {self.count.rounds}, not {self.sealed[name]}")
                end = min(len(whole), rest + MIB)
                if rest > end:
                    self.count.failures.append(f"{name}: a partial of {rest} bytes")
                if name in self.allowed:
                    # Its name answers for the published file: a new upload is what is left.
                    whole, rest, end = whole[:MIB], 0, MIB
                if rest and self.count.rounds % 4 == 0:
                    # It goes on where SIZE has just said.
                    session.storbinary("APPE " + name, io.BytesIO(whole[rest:end]))
                else:
                    session.put(name, whole[rest:end], rest=rest or None)
                self.count.resumed += rest > 0
                self.allowed[name] = {digest(whole[:end])}
                there = self.board.run(f"sha256sum '{self.medium.place}/{name}'").split()[0]
                if there != digest(whole[:end]):
                    what = difference(whole[:end], session.fetch(name))
                    self.count.failures.append(
                        f"{name}: resumed at {rest} after cut {self.count.rounds}, 226, but {what}")
        self.interrupted, self.sealed = {}, {}

    def tidy(self):
        """Keep room for the next rounds."""
        with self.session() as session:
            for name in sorted(self.allowed):
                if name.startswith(("large", "partial")):
                    session.delete(name)
                    del self.allowed[name]
                    self.deleted.add(name)

    def series(self, rounds, until_loss=False):
        """So many cuts, in the form given by `rounds`: a list of methods."""
        try:
            for action in [*rounds, None]:
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
