"""How an attack is run and judged. Each runs in a process of its own, so that its load is not that
of the client which is measured."""

import collections
import contextlib
import io
import multiprocessing
import os
import select
import signal
import sys
import threading
import time
import traceback

import honest
from server import Failure, PATIENCE

# The issue's own bound, from SYN to the last reply.
SERVED_WITHIN = 1.0
# Anonymous memory that an attack may leave, in KiB: the table of penalties holds 1024 addresses and
# names (some 200 KiB), and the allocator and the stacks keep what each worker's busiest session had.
# An attack that leaves more is run again, for a high-water mark is reached once and a leak grows each
# time: what leaks 200 bytes for each of 5,000 sessions or commands is more than that.
SLACK_KIB = 512
TIMES = 3
# An attack that takes longer hangs.
LONGEST = 300

FORK = multiprocessing.get_context("fork")
Attack = collections.namedtuple("Attack", "name run many alone long twice")
Row = collections.namedtuple("Row", "name sent during after before left seconds")
ATTACKS = []


class NotRun(Exception):
    """What the attack needs is not here."""


def attack(name, many=False, alone=False, long=False, twice=False):
    """Makes a function an attack: `run(server, pressure, count)`, which gives a text of what was sent;
    `count(n)` is n, or a part of it in the quick form. `many`: from many addresses, so that only
    those have a way in for whom it is kept. `alone`: it starts a server of its own and measures
    itself. `long`: not in the quick form. `twice`: what a first time leaks may go where the allocator
    has room from before, so only a second one tells."""
    def add(run):
        ATTACKS.append(Attack(name, run, many, alone, long, twice))
        return run
    return add


class Pressure:
    """The attacker's end of the line to whoever measures."""

    # Nothing else is going on, so that times and CPU tell.
    alone = True

    def __init__(self, pipe):
        self.pipe = pipe
        self.over = threading.Event()
        self.said = False

    def on(self):
        """The server has all of it on it now; said once."""
        if not self.said:
            self.said = True
            self.pipe.send(("on", None))

    def wanted(self, timeout=0):
        """Whether to go on; waits so many seconds for the answer. For the attack's main thread."""
        if not self.over.is_set() and self.pipe.poll(timeout):
            self.pipe.recv()
            self.over.set()
        return not self.over.is_set()

    def hold(self):
        """All is as it is to be; waits until that has been measured."""
        self.on()
        while self.wanted(1):
            pass


def all_of(work, items, threads=8):
    """Does `work(item)` for all, some at a time; the first exception is raised when all have ended."""
    items, errors, lock, results = iter(items), [], threading.Lock(), []

    def go():
        while not errors:
            with lock:
                item = next(items, items)
            if item is items:
                return
            try:
                results.append(work(item))
            except BaseException as error:
                errors.append(error)

    crew = [threading.Thread(target=go, daemon=True) for _ in range(threads)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    if errors:
        raise errors[0]
    return results


def end_by_signal():
    """Makes an order to end an exception, so that what was started is ended too; also where this was
    started in the background, and SIGINT is ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


def child(run, server, pipe, count):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pressure = Pressure(pipe)
    try:
        sent = run(server, pressure, count)
        pressure.on()
        pipe.send(("done", sent))
    except NotRun as reason:
        pipe.send(("not run", str(reason)))
    except BaseException:
        pipe.send(("failed", traceback.format_exc()))


class Running:
    """An attack under way."""

    def __init__(self, chosen, server, count):
        self.pipe, theirs = FORK.Pipe()
        self.process = FORK.Process(target=child, args=(chosen.run, server, theirs, count))
        self.process.start()
        theirs.close()
        self.deadline = time.monotonic() + LONGEST

    def next(self):
        """What it says next: "on", "done" or "not run", with a text."""
        left = max(0, self.deadline - time.monotonic())
        if not select.select([self.pipe], [], [], left)[0]:
            raise Failure(f"the attack did not end within {LONGEST} s")
        try:
            kind, text = self.pipe.recv()
        except EOFError:
            raise Failure("the attack ended without a word") from None
        if kind == "failed":
            raise Failure(f"the attack saw what must not be:\n{text}")
        return kind, text

    def off(self):
        try:
            self.pipe.send("off")
        except OSError:
            pass

    def end(self):
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        self.pipe.close()


def served(server, network, what):
    """Seconds until an honest client was served, which must be few; a first failure is one."""
    try:
        took = honest.visit(server, network)
    except Exception as error:
        raise Failure(f"{what} the honest client was not served: {error!r}") from error
    if took > SERVED_WITHIN:
        raise Failure(f"{what} the honest client was served after {took:.2f} s")
    return took


def once(server, chosen, count, baseline):
    """Runs it and lets honest clients in: what it says, and their seconds meanwhile and afterwards."""
    running, during = Running(chosen, server, count), None
    try:
        kind, text = running.next()
        if kind == "on":
            if not chosen.alone:
                during = served(server, honest.ENGINEER if chosen.many else honest.COMMON, "meanwhile")
            running.off()
            kind, text = running.next()
    finally:
        running.end()
    if kind == "not run":
        return kind, text, None, None
    if not server.is_alive():
        raise Failure(f"the server has ended: {server.process.returncode}")
    after = served(server, honest.COMMON, "afterwards")
    server.quiet(baseline)
    server.complete_log()
    server.is_idle()
    return kind, text, during, after


def endure(server, chosen, count, baseline):
    """One attack and the judgement on it: a row, or `None` with the reason why it did not run."""
    begun, first = time.monotonic(), server.usage()
    for again in range(TIMES):
        before = server.usage()
        kind, text, during, after = once(server, chosen, count, baseline)
        if kind == "not run":
            return None, text
        left = server.usage()
        if chosen.twice and not again:
            continue
        if left.anonymous <= before.anonymous + SLACK_KIB:
            return Row(chosen.name, text, during, after, first, left, time.monotonic() - begun), None
    raise Failure(f"memory grew each of {TIMES} times, at last from {before.anonymous} to {left.anonymous} KiB")


def warm_up(server):
    """Every worker has served and every stack has been touched; what is there then is the baseline."""
    with contextlib.ExitStack() as sessions:
        # One after the other, as not all workers may be without a login at once; the last is kept free.
        sources = [f"127.10.{number % 4}.1" for number in range(15)] + [honest.address(honest.ENGINEER)]
        ready = [sessions.enter_context(honest.log_in(server, source)) for source in sources]
        all_of(lambda ftp: ftp.storbinary(f"STOR warm-{id(ftp)}", io.BytesIO(bytes(1_000_000))), ready, 16)
        all_of(lambda ftp: ftp.retrbinary(f"RETR warm-{id(ftp)}", len), ready, 16)
        all_of(lambda ftp: ftp.delete(f"warm-{id(ftp)}"), ready, 16)
    for _ in range(20):
        honest.visit(server, size=1_000_000)
    server.quiet()
    server.complete_log()
    return server.usage()


def memory_note(server, usage):
    """What is within the ceiling that the server itself tells."""
    ceilings = server.ceilings()
    if usage.threads > ceilings["threads"] or usage.fds > ceilings["descriptors"]:
        raise Failure(f"beyond its own ceilings: {usage}, {ceilings}")
    return ceilings


def table(rows):
    """The rows as text."""
    def number(value):
        return "-" if value is None else f"{value * 1000:.0f}"
    lines = [("attack", "s", "meanwhile ms", "after ms", "threads", "fds", "PSS KiB", "anon KiB", "what was sent")]
    for row in rows:
        lines.append((row.name, f"{row.seconds:.1f}", number(row.during), number(row.after),
                      f"{row.before.threads} {row.left.threads}", f"{row.before.fds} {row.left.fds}",
                      f"{row.before.pss} {row.left.pss}",
                      f"{row.before.anonymous} {row.left.anonymous}", row.sent))
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip()
                     for line in lines)


