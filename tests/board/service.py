"""What is tried on one board that stays on: transfers, the init script, syslogd, the clock, memory,
and being killed."""

import datetime
import ftplib
import os
import threading
import time

from board import PATIENCE, Deadline
from clients import Ftps, curl, digest, lftp
from vfat import vfat

IDLE_TIMEOUT = 30
SESSIONS = 16
MIB = 1 << 20
LOG = "/var/log/messages"


def log_has(board, pattern, limit=30):
    """Wait for a line of the log; tells the last that matches."""
    return board.until(f"grep -E '{pattern}' {LOG} | tail -n 1 | grep .", limit, "log line " + pattern)


def log_count(board, pattern):
    """Number of lines."""
    return int(board.run(f"grep -cE '{pattern}' {LOG} || :"))


class Idle(threading.Thread):
    """A session that does nothing until the server ends it."""

    def __init__(self, session):
        super().__init__(daemon=True)
        self.session = session
        session.voidcmd("NOOP")
        self.since = time.monotonic()
        self.answer, self.waited = None, 0

    def run(self):
        self.session.sock.settimeout(IDLE_TIMEOUT * PATIENCE)
        try:
            answer = self.session.getline()
        except (OSError, EOFError, ftplib.Error) as closed:
            answer = repr(closed)
        self.waited = time.monotonic() - self.since
        self.session.close()
        self.answer = answer


class Service:
    """The checks share one board and the certificate that it made."""

    def __init__(self, board, authority, report, directory, full):
        self.board, self.authority, self.report = board, authority, report
        self.directory, self.full = directory, full
        self.idle = None

    def session(self, **options):
        """A session that is logged in."""
        return Ftps(self.board.explicit, self.authority, **options)

    def hash_inside(self, path):
        """SHA-256 of a file, made by the board."""
        return self.board.run(f"sha256sum '{path}'", 120).split()[0]

    def started(self):
        """The clock at the start, the certificate made there, the log."""
        year = self.board.run("date +%Y")
        assert year == "1970", f"the clock starts in {year}"
        for pattern in ("listening address=0.0.0.0:21 ", "clock-behind ", "certificate-made "):
            log_has(self.board, "ftpsd.*: " + pattern)

    def curl_and_lftp(self):
        """Uploads and downloads, explicit and implicit, hashes compared on both sides."""
        for client, size in (("curl", 3 * MIB + 1), ("curl-implicit", 70001), ("lftp", 3 * MIB + 7)):
            data = os.urandom(size)
            here = os.path.join(self.directory, client)
            with open(here, "wb") as file:
                file.write(data)
            back = here + ".back"
            if client == "lftp":
                lftp(self.board.explicit, self.authority, f"put {here} -o up-lftp; get up-lftp -o {back}; ls; bye")
            else:
                scheme, port = ("ftp", self.board.explicit) if client == "curl" else ("ftps", self.board.implicit)
                curl(port, self.authority, "-T", here, "up-" + client, scheme=scheme)
                curl(port, self.authority, "-o", back, "up-" + client, scheme=scheme)
            with open(back, "rb") as file:
                assert file.read() == data, f"{client}: what came back differs"
            assert self.hash_inside("/data/ftp/up-" + client) == digest(data), f"{client}: the file differs"
            os.unlink(here)
            os.unlink(back)
        self.report("curl (explicit, implicit), lftp", "up and down, hashes equal")

    def speed(self):
        """Login time; MB/s in both directions, TLS and the sync included."""
        times = []
        for _ in range(5):
            begin = time.monotonic()
            session = self.session()
            times.append(time.monotonic() - begin)
            session.quit()
        self.report("login, from connect to PROT P", f"{sorted(times)[2]:.2f} s (median of 5)")
        size = (32 if self.full else 8) * MIB
        data = os.urandom(size)
        with self.session() as session:
            begin = time.monotonic()
            session.put("speed", data)
            up = time.monotonic() - begin
            begin = time.monotonic()
            assert session.fetch("speed") == data
            down = time.monotonic() - begin
            cipher = session.sock.cipher()[0]
            session.delete("speed")
        self.report(f"{size // MIB} MiB up, synced", f"{size / up / 1e6:.1f} MB/s ({cipher})")
        self.report(f"{size // MIB} MiB down", f"{size / down / 1e6:.1f} MB/s ({cipher})")

    def memory(self):
        """Resident memory at idle and with 16 sessions."""
        self.board.run("/etc/init.d/S50ftpsd restart", 60)
        self.board.greeting(30)
        rss, pss = self.board.memory()
        self.report("memory at idle", f"Rss {rss} KiB, Pss {pss} KiB")
        sessions = []
        try:
            for _ in range(SESSIONS):
                sessions.append(self.session())
            rss, pss = self.board.memory()
            self.report(f"memory with {SESSIONS} sessions", f"Rss {rss} KiB, Pss {pss} KiB")
            for session in sessions:
                session.retrlines("LIST", lambda line: None)
            rss, pss = self.board.memory()
            self.report("... each after a listing", f"Rss {rss} KiB, Pss {pss} KiB")
        finally:
            for session in sessions:
                session.close()
        self.board.until("! netstat -tn | grep -q ':21 .*ESTABLISHED'")

    def init_script(self):
        """Every word of the init script, with its exit status."""
        board = self.board
        script = "/etc/init.d/S50ftpsd "

        def number():
            return board.run("cat /run/ftpsd.pid")

        board.run(script + "status")
        first = number()
        board.run(script + "start")
        assert number() == first, "start of a running server started another"
        with self.session() as session:
            board.run(script + "reload")
            log_has(board, "ftpsd.*: reloaded")
            assert number() == first, "reload is no restart"
            session.voidcmd("NOOP")
        board.run(script + "restart")
        assert number() != first, "restart kept the process"
        board.greeting(30)
        board.run(script + "stop")
        # Init takes a second to bury it.
        board.until("! pidof ftpsd")
        board.run(script + "status", status=3)
        board.run(script + "reload", status=7)
        board.run(script + "stop")
        board.run("cp /etc/ftpsd.toml /run/good && echo 'no-such-key = 1' >/etc/ftpsd.toml")
        board.run(script + "start", status=6)
        board.run("cp /run/good /etc/ftpsd.toml")
        # A number left behind by a crash, which is another program's by now.
        board.run("sleep 300 & echo $! >/run/ftpsd.pid; echo $! >/run/other")
        board.run(script + "status", status=1)
        board.run(script + "stop")
        board.run("kill -0 $(cat /run/other)")
        board.run(script + "start")
        board.greeting(30)
        board.run("kill $(cat /run/other)")
        with self.session() as session:
            # The certificate was kept: the authority is the one read before.
            session.voidcmd("NOOP")
        assert log_count(board, "ftpsd.*: certificate-made ") <= 1
        self.report("init script", "start, stop, restart, reload, status: exit statuses right")

    def syslogd(self):
        """A syslogd that is killed and comes back: lines arrive again, what was lost is counted."""
        board = self.board
        pattern = f"grep 'ftpsd.*: log-lines-lost count=' {LOG} || :"
        # A slow board may have lost some before.
        before = len(board.run(pattern).splitlines())
        board.run("kill -9 $(pidof syslogd)")
        self.session().quit()
        board.run("/etc/init.d/S01syslogd start")
        deadline = Deadline(30, "a count of lost lines")
        count = 0
        while count < 3:
            deadline.left()
            # It is told with the first line that arrives.
            self.session().quit()
            lines = board.run(pattern).splitlines()[before:]
            count = sum(int(line.rpartition("count=")[2].split()[0]) for line in lines)
        before = log_count(board, "ftpsd.*: login ")
        self.session().quit()
        board.until(f"[ $(grep -c 'ftpsd.*: login ' {LOG}) -gt {before} ]")
        self.report("syslogd killed and restarted", f"lines arrive again, {count} lost ones counted")

    def clock(self):
        """The clock steps from 1970 to today while one session uploads and another is idle; how long
        that one is left alone is looked at later."""
        board = self.board
        assert board.run("date +%Y") == "1970"
        data = os.urandom(2 * MIB)
        self.idle = Idle(self.session())
        self.idle.start()
        with self.session() as session:
            upload = session.begin_put("clock")
            step = len(data) // 16
            for index in range(16):
                upload.sendall(data[index * step:(index + 1) * step])
                if index == 7:
                    board.run(f"date -s @{int(time.time())}")
                time.sleep(0.2)
            assert session.end_put(upload).startswith("226")
            today = datetime.datetime.now(datetime.timezone.utc)
            stamp = session.sendcmd("MDTM clock").split()[1]
            assert stamp[:4] in (str(today.year), str(today.year - 1)), stamp
            assert session.fetch("clock") == data
        assert int(board.run("date +%Y")) >= today.year - 1

    def idle_after_clock(self):
        """The idle session ends in its time, as if the clock had not been set."""
        self.idle.join(IDLE_TIMEOUT * PATIENCE)
        assert self.idle.answer is not None, "the idle session goes on"
        assert self.idle.answer.startswith("421"), self.idle.answer
        # Not at the step. The emulator's time is not exactly ours.
        assert self.idle.waited > IDLE_TIMEOUT * 0.8, self.idle.waited
        self.report("clock stepped from 1970 in an upload",
                    f"226, and idle-timeout of {IDLE_TIMEOUT} s came after {self.idle.waited:.0f} s")

    def respawn(self):
        """Kept running by init alone: killed, and killed for want of memory."""
        board = self.board
        board.run("/etc/init.d/S50ftpsd stop; mv /etc/init.d/S50ftpsd /etc/init.d/ftpsd; "
                  "grep -v ':shutdown:' /usr/share/ftpsd/inittab >>/etc/inittab; kill -HUP 1")
        board.greeting(30)
        board.run("/etc/init.d/ftpsd status")
        deaths = [("SIGKILL", "kill -9 $p"),
                  ("killed for want of memory (SysRq f)",
                   "echo 1000 >/proc/$p/oom_score_adj; echo f >/proc/sysrq-trigger")]
        if self.full:
            # As much as there is; the kernel ends the server first, then what takes it all.
            deaths.append(("killed for want of memory (memory full)",
                           "echo 1000 >/proc/$p/oom_score_adj; timeout 20 tail /dev/zero >/dev/null"))
        for name, death in deaths:
            with self.session() as session:
                session.put("before-kill", b"x" * 5000)
            old = board.run("cat /run/ftpsd.pid")
            begin = time.monotonic()
            board.run(f"p={old}; {death}; :", 60)
            board.until(f"! grep -q ftpsd /proc/{old}/comm", what=name)
            board.greeting(60)
            seconds = time.monotonic() - begin
            assert board.run("cat /run/ftpsd.pid") != old, f"{name}: the same process"
            if "memory" in name:
                assert "ftpsd" in board.run(f"dmesg | grep -i 'killed process {old} '"), name
            with self.session() as session:
                assert session.fetch("before-kill") == b"x" * 5000
            self.report(f"{name}, inittab respawn", f"220 again after {seconds:.1f} s")

    def card(self):
        """A user whose root is a card with vfat."""
        vfat(self.board, self.authority, self.report)

    def checks(self):
        """In this order: the clock can step once, and respawn changes the board."""
        return [self.started, self.curl_and_lftp, self.speed, self.memory, self.init_script,
                self.syslogd, self.clock, self.card, self.idle_after_clock, self.respawn]
