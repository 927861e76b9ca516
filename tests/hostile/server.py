"""A server of our own on loopback, and what /proc and its log say of it."""

import collections
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time

HOST = "127.0.0.1"
USER, PASSWORD = "anna", "pass word"
# An address range for which one worker is kept free.
RESERVED = "127.9.0.0/16"
# How long anything may take that is awaited here; what has a bound of its own says so.
PATIENCE = 60
# Deadlines short enough to be seen to pass; everything else is as by default.
TOP = """
login-timeout = "8s"
idle-timeout = "30s"
tls-timeout = "4s"
data-timeout = "4s"
stall-timeout = "4s"
login-penalty = "1s"
"""

# The same for who has little time.
SHORT = TOP.replace("8s", "5s").replace("4s", "2s")

Usage = collections.namedtuple("Usage", "threads fds pss rss anonymous")


class Failure(Exception):
    """A promise that the server did not keep."""


def wait_until(true, what, patience=None):
    """Looks again and again, for /proc announces nothing; gives what `true` gave."""
    patience = patience or PATIENCE
    deadline = time.monotonic() + patience
    while True:
        found = true()
        if found:
            return found
        if time.monotonic() > deadline:
            raise Failure(f"not within {patience} s: {what}")
        time.sleep(0.02)


class Server:
    """`top` is configuration besides what all have, `environment` additions to the environment.
    Root's server changes to nobody. `log` is "stderr", which is a file, or what the key takes. It
    listens at `host`."""

    def __init__(self, program, top="", environment=None, log="stderr", ready=True, host=HOST):
        self.program = os.path.abspath(program)
        self.host = host
        self.directory = tempfile.mkdtemp(prefix="ftpsd-hostile-")
        self.process = None
        self.checked = 0
        # How many lines of each event check_log() saw, and of each result of a login.
        self.told = collections.Counter()
        # For attacks that start another like it.
        self.top = top
        def seconds(key, otherwise):
            found = re.search(rf'{key} = "(\d+)s"', top)
            return int(found.group(1)) if found else otherwise

        self.login_timeout, self.tls_timeout = seconds("login-timeout", 60), seconds("tls-timeout", 30)
        try:
            self.begin(top, environment, log, ready)
        except BaseException:
            self.stop()
            raise

    def begin(self, top, environment, log, ready):
        self.root = os.path.join(self.directory, "root")
        state = os.path.join(self.directory, "state")
        os.mkdir(self.root)
        os.chmod(self.directory, 0o755)
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(self.root, nobody.pw_uid, nobody.pw_gid)
            top = 'account = "nobody"\n' + top
        self.certificate = os.path.join(state, "certificate.pem")
        hashed = subprocess.run([self.program, "--hash-password"], input=PASSWORD.encode() + b"\n",
                                stdout=subprocess.PIPE, check=True).stdout.decode().strip()
        # Ports of the kernel's choice: port 0 is one that is free.
        self.configuration = os.path.join(self.directory, "ftpsd.toml")
        with open(self.configuration, "w") as file:
            file.write(f"""listen = ["{self.host}:0"]
listen-implicit = ["{self.host}:0"]
state-dir = "{state}"
log = "{log}"
reserve-for = ["{RESERVED}"]
{top}
[[user]]
name = "{USER}"
password = "{hashed}"
root = "{self.root}"
""")
        self.errors = os.path.join(self.directory, "log")
        with open(self.errors, "wb") as errors:
            self.process = subprocess.Popen(
                [self.program, "-F", "-f", self.configuration], stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=errors,
                env={**os.environ, **(environment or {})})
        self.pid = self.process.pid
        if ready:
            listening = wait_until(lambda: self.said("listening ", 2), "the server listens", 20)
            self.explicit, self.implicit = (int(re.search(r":(\d+) ", line).group(1))
                                            for line in listening)

    def said(self, text, count=1):
        """The lines with `text`, once there are so many of them."""
        lines = [line for line in self.log().splitlines() if text in line]
        return lines if len(lines) >= count else None

    def log(self):
        with open(self.errors, encoding="ascii", errors="backslashreplace") as file:
            return file.read()

    def proc(self, name):
        with open(f"/proc/{self.pid}/{name}") as file:
            return file.read()

    def is_alive(self):
        return self.process.poll() is None

    def usage(self):
        """What it has now; memory in KiB."""
        sizes = dict(re.findall(r"^(\w+): +(\d+) kB$", self.proc("smaps_rollup"), re.M))
        return Usage(len(os.listdir(f"/proc/{self.pid}/task")), len(os.listdir(f"/proc/{self.pid}/fd")),
                     int(sizes["Pss"]), int(sizes["Rss"]), int(sizes["Anonymous"]))

    def cpu(self):
        """Seconds of CPU so far."""
        fields = self.proc("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def ceilings(self):
        """What `ftpsd -t` says that it takes at most."""
        done = subprocess.run([self.program, "-t", "-F", "-f", self.configuration], check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        # It runs already; 1 is for warnings.
        assert done.returncode in (0, 1), done.returncode
        text = done.stdout.decode()
        return {key: int(value) for key, value in re.findall(r"^([a-z-]+): (\d+)$", text, re.M)}

    def quiet(self, baseline=None):
        """Waits until no session runs, by the server's own count and by that of /proc."""
        def no_session():
            counters = self.counters()
            return counters["running"] == counters["before-login"] == 0

        def idle():
            usage = self.usage()
            return usage.threads <= baseline.threads and usage.fds <= baseline.fds

        wait_until(no_session, "the end of all sessions")
        if baseline:
            try:
                # The sweeper opens directories for moments.
                wait_until(idle, "threads and descriptors", 10)
            except Failure:
                raise Failure(f"leaked: {self.usage()} after {baseline}: {self.open()}") from None
        return self.usage()

    def counters(self):
        """Its own counts, asked for now."""
        # The last field: a line may be seen while it is written.
        before = len(self.said(" workers=") or [])
        self.process.send_signal(signal.SIGUSR1)
        lines = wait_until(lambda: self.said(" workers=", before + 1), "the counters")
        return {key: int(value) for key, value in re.findall(r" ([a-z-]+)=(\d+)", lines[-1])}

    def complete_log(self):
        """The log has all that was counted: each session's begin and end, each refusal, each login.
        For a server that is quiet, with a log that loses nothing."""
        def complete():
            counters, told = self.counters(), self.told
            self.check_log()
            return (told["connected"] == told["closed"] == counters["sessions"]
                    and told["turned-away"] == counters["turned-away"]
                    and told["login accepted"] == counters["logins"]
                    and told["login"] - told["login accepted"] == counters["logins-refused"])

        try:
            wait_until(complete, "the lines of all sessions", 10)
        except Failure:
            raise Failure(f"the log is not complete: {self.counters()}, its lines: {dict(self.told)}") from None

    def is_idle(self):
        """Nobody is there, and it does nothing; for a moment, as of a sweep, it may."""
        def idle():
            before = self.cpu()
            time.sleep(0.2)
            return self.cpu() - before < 0.1

        wait_until(idle, "a server without clients that does nothing", 10)

    def open(self):
        """What its descriptors are, for whoever reads of a leak."""
        names = []
        for number in os.listdir(f"/proc/{self.pid}/fd"):
            try:
                names.append(os.readlink(f"/proc/{self.pid}/fd/{number}"))
            except FileNotFoundError:
                pass
        return sorted(names)

    def check_log(self):
        """Holds what was logged since the last time against the manual page."""
        with open(self.errors, "rb") as file:
            file.seek(self.checked)
            new = file.read()
        whole = new[:new.rfind(b"\n") + 1]
        self.checked += len(whole)
        for line in whole.split(b"\n")[:-1]:
            name, fields = check_line(line.decode("ascii", "backslashreplace"))
            self.told[name] += 1
            if name == "login" and fields.endswith(" result=accepted"):
                self.told["login accepted"] += 1

    def stop(self):
        """Ends it, by force if it does not, and takes its files away; gives its exit status."""
        status = None
        if self.process:
            if self.process.poll() is None:
                self.process.terminate()
            try:
                status = self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                status = "killed, as it did not stop"
        shutil.rmtree(self.directory, ignore_errors=True)
        return status

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind and not os.environ.get("FTPSD_HOSTILE_QUIET") and os.path.exists(self.errors):
            lines = self.log().splitlines()
            print("the server's last words:", *lines[-15:], sep="\n    ", flush=True)
        status = self.stop()
        if kind is None and status != 0:
            raise Failure(f"the server's exit status was {status}")


PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../src/ftpsd.8")
VALUE = r'(?:[A-Za-z0-9_./:,@+\[\]%*-]+|"(?:[ !#-\[\]-~]|\\["\\]|\\x[0-9a-f]{2})*"(?:\.\.\.)?)'
LINE = re.compile(rf"(error|warning|notice|info): ([a-z-]+)((?: [a-z-]+={VALUE})*)$")
DEFECTS = {"panic", "session-panicked", "failed"}
EVENTS = {}


def events():
    """Events of ftpsd(8) with their fields."""
    if not EVENTS:
        with open(PAGE) as file:
            log = file.read().split("\n.Sh LOG\n")[1].split("\n.Sh ")[0]
        EVENTS["log-lines-lost"] = ["count"]
        for name, fields in re.findall(r"^\.It Cm ([a-z-]+)((?: Va [a-z-]+)*)$", log, re.M):
            EVENTS[name] = [word for word in fields.split() if word != "Va"]
        assert len(EVENTS) > 35, EVENTS
    return EVENTS


def check_line(line):
    """The event's name and its fields, if it is well formed; tests/server/grammar.rs is stricter; this is for lines by the ten thousand."""
    found = LINE.match(line)
    if not found:
        raise Failure(f"no line of the log: {line!r}")
    name = found.group(2)
    if name in DEFECTS:
        raise Failure(f"a defect of the server: {line}")
    known = events().get(name)
    if known is None:
        raise Failure(f"the manual page has no such event: {line!r}")
    left = ["session", "peer"] + [field for field in known if field not in ("session", "peer")]
    for key in re.findall(rf" ([a-z-]+)={VALUE}", found.group(3)):
        if key not in left:
            raise Failure(f"{key} is no field of {name}, or out of order: {line!r}")
        left = left[left.index(key) + 1:]
    return name, found.group(3)
