"""The servers of `make bench`: ours, the minimal programs, and peers."""

import json
import os
import socket
import subprocess
import tempfile
import time

from measure import Group

USER, PASSWORD = "bench", "benchpw"
# Of that password, with as many rounds as the peers' hashes have.
HASH = "$6$rounds=1000$benchmark$eGH2Nu7qBm3Mmaoyl5rzzJO.ofD4/kpC0vYaylk2nbXBLY4Iww05t4aRnMYoB0/Vv.LlVY2PrIPqkJR0i983w/"


def stop(process):
    """Ends a process that we started."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Server:
    """A server that runs between start() and stop()."""

    user, password = USER, PASSWORD
    group = process = address = None

    def __init__(self, name, home):
        self.name, self.home = name, home

    def stop(self):
        if self.group:
            self.group.close()
            self.group = None
        if self.process:
            stop(self.process)
            self.process = None

    def await_banner(self, port):
        """Waits until it greets."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if self.process and self.process.poll() is not None:
                break
            try:
                with socket.create_connection(("127.0.0.1", port), 5) as probe:
                    if probe.recv(100).startswith(b"220"):
                        return
            except OSError:
                time.sleep(0.01)
        raise RuntimeError(f"{self.name} did not start")


class Ours(Server):
    """ftpsd itself."""

    def __init__(self, name, home, binary, work, account, workers, ports="40000-40999"):
        super().__init__(name, home)
        self.ports = ports
        self.binary, self.work, self.account, self.workers = binary, work, account, workers

    def start(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        place = tempfile.mkdtemp(dir=self.work)
        text = f"""
listen = ["127.0.0.1:{port}"]
account = "{self.account}"
log = "stderr"
workers = {self.workers}
sessions-per-address = {self.workers}
sessions-before-login = {self.workers}
idle-timeout = "1h"
stall-timeout = "1h"
passive-ports = "{self.ports}"
durable = false
[[certificate]]
chain = "{self.work}/cert.pem"
key = "{self.work}/key.pem"
[[user]]
name = "{USER}"
password = "{HASH}"
root = "{self.home}"
"""
        if os.geteuid() != 0:
            text = "\n".join(line for line in text.splitlines() if not line.startswith("account"))
        with open(place + "/ftpsd.toml", "w", encoding="utf-8") as file:
            file.write(text)
        with open(place + "/log", "wb") as log:
            self.process = subprocess.Popen(
                [self.binary, "-F", "-f", place + "/ftpsd.toml"], stdin=subprocess.DEVNULL, stderr=log
            )
        self.address = f"127.0.0.1:{port}"
        try:
            self.await_banner(port)
        except RuntimeError as error:
            with open(place + "/log", encoding="utf-8") as log:
                raise RuntimeError(f"{error}: {log.read()}") from None
        self.group = Group(self.process.pid)

    def version(self):
        return subprocess.run([self.binary, "-V"], capture_output=True, text=True, check=True).stdout.strip()


class Raw(Server):
    """One of the minimal programs."""

    def __init__(self, work, client, place, file):
        super().__init__(work, None)
        self.command = [client, work, f"chain={place}/cert.pem", f"key={place}/key.pem", f"file={file}"]

    def start(self):
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        port = self.process.stdout.readline().strip().partition("=")[2]
        self.address = f"127.0.0.1:{port}"
        self.group = Group(self.process.pid)

    def stop(self):
        if self.process:
            self.process.stdout.close()
        super().stop()


class Peer(Server):
    """Another server, which scripts of its own start and stop."""

    def __init__(self, spec, home, environment):
        super().__init__(spec["name"], spec.get("home", home))
        self.spec, self.environment = spec, environment
        self.user = spec.get("user", USER)
        self.password = spec.get("password", PASSWORD)

    def _run(self, script):
        return subprocess.run(
            ["bash", script], env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
            check=True, timeout=60,
        ).stdout

    def start(self):
        words = dict(word.split("=", 1) for word in self._run(self.spec["start"]).split() if "=" in word)
        self.address = f"127.0.0.1:{self.spec['port']}"
        try:
            self.await_banner(self.spec["port"])
        except RuntimeError:
            self._run(self.spec["stop"])
            raise
        self.group = Group(int(words["pid"]))

    def stop(self):
        if self.group:
            self._run(self.spec["stop"])
        super().stop()

    def version(self):
        """What the program says of itself."""
        self.start()
        try:
            program = os.path.realpath(f"/proc/{self.group.pid}/exe")
            libraries = [os.path.basename(it) for it in self.group.mapped()]
            for option in self.spec.get("version", ["--version"]), ["-v"]:
                said = subprocess.run(
                    [program, *option], env=self.environment, stdin=subprocess.DEVNULL, capture_output=True,
                    text=True, timeout=20, check=False,
                )
                lines = (said.stdout + said.stderr).strip().splitlines()
                if lines and any(letter.isdigit() for letter in lines[0]) and "error" not in lines[0]:
                    break
            else:
                lines = [self.name]
            tls = [it for it in libraries if it.startswith(("libssl", "libgnutls"))]
            return f"{lines[0].strip()} ({', '.join(tls) or 'TLS linked in'})"
        finally:
            self.stop()


def peers(directory, home):
    """The peers that a directory describes, and why there are none."""
    if not directory:
        return [], "FTPSD_PEERS names no directory of peers"
    try:
        with open(os.path.join(directory, "servers.json"), encoding="utf-8") as file:
            specs = json.load(file)
    except (OSError, ValueError) as error:
        return [], f"no peers: {error}"
    environment = dict(os.environ, PEERS=os.path.abspath(directory), FTPBENCH_HOME=home)
    return [Peer(spec, home, environment) for spec in specs], None
