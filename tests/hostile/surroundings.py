"""What goes wrong around the server: its clock, its log. And what a scanner does."""

import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time

import honest
from attack import SERVED_WITHIN, NotRun, attack
from server import Failure, Server, wait_until


def visits(server, number):
    """So many honest visits, each within the time."""
    took = [honest.visit(server) for _ in range(number)]
    if max(took) > SERVED_WITHIN:
        raise Failure(f"an honest client was served after {max(took):.2f} s")
    return took


@attack("clock-jumps", alone=True)
def clock_jumps(server, pressure, count):
    """The server's wall clock jumps all the time, by the library of faketime(1)."""
    if not shutil.which("faketime"):
        raise NotRun("no faketime")
    library = subprocess.run(["faketime", "-m", "-f", "+0", "printenv", "LD_PRELOAD"], check=True,
                             stdout=subprocess.PIPE).stdout.decode().strip()
    with open(server.program, "rb") as program:
        if b"ld-linux" not in program.read(4096) and b"ld-musl" not in program.read(4096):
            raise NotRun("a static program takes no library")
    with tempfile.TemporaryDirectory(prefix="ftpsd-clock-") as place:
        os.chmod(place, 0o755)
        clock = os.path.join(place, "clock")

        def jump(to):
            with open(f"{clock}.new", "w") as file:
                file.write(to)
            os.rename(f"{clock}.new", clock)

        jump("+0")
        environment = {"LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": clock, "FAKETIME_NO_CACHE": "1",
                       "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}
        with Server(server.program, server.top, environment) as jumping:
            try:
                visits(jumping, 20)
                jumping.quiet()
                before = jumping.usage()
                jumps = ["+50y", "-50y", "1970-01-01 00:00:10", "+0", "+400d", "-1h", "+68y"]
                over, jumped = threading.Event(), []

                def go():
                    while not over.is_set():
                        jump(jumps[len(jumped) % len(jumps)])
                        jumped.append(1)

                going = threading.Thread(target=go, daemon=True)
                going.start()
                silent = honest.connect(jumping, "127.6.1.1")
                begun = time.monotonic()
                honest.line(silent)
                try:
                    took = visits(jumping, count(200))
                    # Its deadline comes neither at once nor never.
                    silent.settimeout(30)
                    if not honest.line(silent).startswith("421"):
                        raise Failure("no 421 at the login deadline")
                    waited = time.monotonic() - begun
                    if not jumping.login_timeout * 0.8 < waited < jumping.login_timeout + 10:
                        raise Failure(f"the deadline of {jumping.login_timeout} s came after {waited:.0f} s")
                finally:
                    over.set()
                    going.join()
                    silent.close()
                jumping.quiet(before)
                jumping.check_log()
            finally:
                # What the library leaves where the environment names none of the kind.
                for kind in ["shm", "sem"]:
                    try:
                        os.unlink(f"/dev/shm/{'sem.' if kind == 'sem' else ''}faketime_{kind}_{jumping.pid}")
                    except FileNotFoundError:
                        pass
        return f"{len(jumped)} jumps of up to 68 years; {len(took)} visits, the longest {max(took) * 1000:.0f} ms"


@attack("syslog-dead", alone=True)
def syslog_dead(server, pressure, count):
    """A syslogd that does not read, then is gone, then comes back."""
    with tempfile.TemporaryDirectory(prefix="ftpsd-syslog-") as place:
        os.chmod(place, 0o755)
        path, took = os.path.join(place, "log"), []

        def listen():
            made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            made.bind(path)
            os.chmod(path, 0o777)
            made.settimeout(30)
            return made

        first = listen()
        with Server(server.program, server.top, log=f"syslog:{path}", ready=False) as mute:
            ports = []
            while len(ports) < 2:
                found = re.search(rb"listening address=\S+:(\d+) ", first.recv(8192))
                ports += [int(found.group(1))] if found else []
            mute.explicit, mute.implicit = ports
            took += visits(mute, count(100))
            for _ in range(count(2_000)):
                honest.connect(mute, "127.6.2.1").close()
            first.close()
            os.unlink(path)
            took += visits(mute, count(100))
            fds = mute.usage().fds
            for _ in range(count(2_000)):
                honest.connect(mute, "127.6.2.1").close()
            second = listen()
            took += visits(mute, 1)
            lost = 0
            while not lost:
                found = re.search(rb"log-lines-lost count=(\d+)", second.recv(8192))
                lost = int(found.group(1)) if found else 0
            second.close()
            wait_until(lambda: mute.usage().fds <= fds + 1, "the descriptors of the sessions", 20)
        return (f"{len(took)} visits while syslogd is full, gone and back, the longest {max(took) * 1000:.0f} ms;"
                f" {lost} lines lost and counted")


SCRIPTS = ["banner", "ftp-anon", "ftp-bounce", "ftp-libopie", "ftp-proftpd-backdoor", "ftp-syst",
           "ftp-vsftpd-backdoor", "ftp-vuln-cve2010-4221", "ssl-ccs-injection", "ssl-cert", "ssl-date",
           "ssl-dh-params", "ssl-heartbleed", "ssl-known-key", "ssl-poodle", "sslv2", "sslv2-drown"]
BAD = ["VULNERABLE", "Anonymous FTP login allowed", "bounce working", "Valid credentials", "SSLv3", "TLSv1.0",
       "TLSv1.1", "backdoor"]


def scan(program, port, scripts, *more):
    """What nmap says of a port; nothing of it may be bad."""
    scanned = subprocess.run(
        [program, "-n", "-Pn", "-sT", "--host-timeout", "100s", "--script-timeout", "50s", "-p", str(port),
         "--script", ",".join("+" + it for it in scripts), *more, "127.0.0.1"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=150, check=False)
    text = scanned.stdout.decode("utf-8", "replace")
    if scanned.returncode or f"{port}/tcp open" not in text:
        raise Failure(f"nmap did not run: {text}")
    for bad in BAD:
        if bad in text:
            raise Failure(f"nmap found {bad}:\n{text}")
    return text


@attack("nmap", long=True)
def nmap(server, pressure, count):
    """The scanner with its FTP and TLS scripts on both ports. It finds nothing."""
    program = shutil.which("nmap")
    if not program:
        raise NotRun("no nmap")
    pressure.on()
    scan(program, server.explicit, [it for it in SCRIPTS if not it.startswith("ssl")], "-sV")
    # By itself, for it opens more sessions than an address may have, and by the port without a doubt
    # which service it is.
    ciphers = scan(program, server.implicit, ["ssl-enum-ciphers"])
    found = sorted(set(re.findall(r"TLS_\w+", ciphers)))
    scan(program, server.implicit, [it for it in SCRIPTS if it.startswith("ssl")])
    # At last, as the address has to wait after it. That ftp-libopie then takes for a hit.
    guessed = scan(program, server.explicit, ["ftp-brute"], "--script-args",
                   "brute.guesses=30,brute.threads=4,unpwdb.userlimit=10,unpwdb.passlimit=10")
    tries = re.search(r"Performed (\d+) guesses", guessed)
    return (f"nmap -sV with {len(SCRIPTS)} scripts found nothing; ssl-enum-ciphers found {len(found)} suites,"
            f" ftp-brute none of {tries.group(1) if tries else 'its'} guesses right")
