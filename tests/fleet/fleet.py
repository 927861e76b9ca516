"""The fleet that all parts use: two servers, clients, a central machine with an authority and the log."""

import hashlib
import json
import os
import subprocess
import sys

from machines import REPOSITORY, Device, Failure, Machine, run, wait_until

CLIENTS = os.path.join(REPOSITORY, "tests/fleet/clients.py")
VIRTUAL = "192.0.2.100"
NAME = "ftp.fleet.example"
HASHES = {}


def password_line(program, password):
    """A line of the users file."""
    if password not in HASHES:
        HASHES[password] = run(program, "--hash-password", input=f"{password}\n".encode()).strip()
    return f"operator:{HASHES[password]}\n"


class Authority:
    """A private authority, by openssl."""

    def __init__(self, place):
        self.place = place
        self.certificate = os.path.join(place, "authority.pem")
        self.issued = 0
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
                      "-subj", "/CN=Fleet authority", "-keyout", "authority.key", "-out", "authority.pem",
                      "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")

    def _openssl(self, *words):
        return run("openssl", *words, cwd=self.place)

    def issue(self, *names):
        """A certificate for these names and a new key; gives the paths of both."""
        self.issued += 1
        base = f"issued-{self.issued}"
        alternative = ",".join(f"{'IP' if name[0].isdigit() else 'DNS'}:{name}" for name in names)
        with open(os.path.join(self.place, f"{base}.ext"), "w") as file:
            file.write(f"subjectAltName={alternative}\nextendedKeyUsage=serverAuth\n"
                       "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n")
        self._openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={names[0]}",
                      "-keyout", f"{base}.key", "-out", f"{base}.csr")
        self._openssl("x509", "-req", "-in", f"{base}.csr", "-CA", "authority.pem", "-CAkey", "authority.key",
                      "-CAcreateserial", "-days", "90", "-extfile", f"{base}.ext", "-out", f"{base}.pem")
        return os.path.join(self.place, f"{base}.pem"), os.path.join(self.place, f"{base}.key")

    def alone(self):
        """A certificate that has issued itself; gives the paths of it and its key."""
        self._openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "90",
                      "-subj", "/CN=alone.fleet.example", "-keyout", "alone.key", "-out", "alone.pem")
        return os.path.join(self.place, "alone.pem"), os.path.join(self.place, "alone.key")


class Fleet:
    """Everything there is."""

    def __init__(self, place, program, recipes, tools):
        self.place, self.program, self.recipes, self.tools = place, program, recipes, tools
        self.children = []
        self.releases = 0
        self.serial = 0
        self.authority = Authority(place)
        self.devices = [Device(f"press-{number}", 10 + number, program) for number in (1, 2)]
        self.clients = [Machine(f"client-{number}", "203.0.113", 10 + number) for number in (1, 2, 3)]
        for device in self.devices:
            for script in ("ftpsd-take", "ftpsd-certificate"):
                device.write(f"/usr/local/sbin/{script}", recipes[script], 0o755)
        self.logs = os.path.join(place, "log")

    def spawn(self, *words, machine=None, **more):
        """A program that is ended with the test."""
        words = machine.words(*words) if machine else words
        child = subprocess.Popen(words, **{"stdin": subprocess.DEVNULL, **more})
        self.children.append(child)
        return child

    def log(self, device, start=0):
        """What the central log has of a device."""
        path = os.path.join(self.logs, f"{device.name}.log")
        if not os.path.exists(path):
            return ""
        with open(path) as file:
            file.seek(start)
            return file.read()

    def mark(self, device):
        """Where its log ends now."""
        return len(self.log(device))

    def wait_log(self, device, text, start=0):
        """Waits for a line, and gives it."""
        def came():
            for line in self.log(device, start).splitlines():
                if text in line:
                    return line
            return None
        try:
            return wait_until(f"{text!r} in the log of {device.name}", came)
        except Failure as failure:
            raise Failure(f"{failure}\n{self.log(device, start)}") from None

    def release(self, device, password="changed", change=lambda text: text):
        """The fleet's tool ships a directory to one device; gives its name."""
        self.releases += 1
        name = f"release-{self.releases}"
        device.write(f"/etc/ftpsd/{name}/ftpsd.toml", change(self.recipes["ftpsd.toml"]))
        device.write(f"/etc/ftpsd/{name}/users", password_line(self.program, password))
        return name

    def take(self, device, **more):
        """Ships, and puts in force; gives the name."""
        name = self.release(device, **more)
        running = device.init("status", status=None)[0] == 0
        start = self.mark(device)
        outcome, said = run(*device.words("ftpsd-take", name), status=None)
        if outcome != (0 if running else 7):
            raise Failure(f"ftpsd-take: {outcome} {said}")
        if running:
            self.wait_log(device, " reloaded", start)
        return name

    def certify(self, device, *names):
        """The authority renews a device's certificate; gives what the hook said."""
        chain, key = self.authority.issue(*names)
        return self.install(device, chain, key)

    def install(self, device, chain, key, status=0):
        """Gives chain and key to the hook, as whoever renews them would."""
        for source, name in ((chain, "chain.pem"), (key, "key.pem")):
            with open(source, "rb") as file:
                device.write(f"/run/renewed/{name}", file.read(), 0o600)
        return run(*device.words("ftpsd-certificate", "/run/renewed/chain.pem", "/run/renewed/key.pem"), status=status)

    def certified(self, change=lambda number, text: text):
        """Both servers have a certificate for the common name, and serve."""
        for number, device in enumerate(self.devices, 1):
            if device.init("status", status=None)[0] == 0:
                device.init("stop")
            chain, key = self.authority.issue(f"press-{number}.fleet.example", NAME, device.address, VIRTUAL)
            # The first time there is no configuration yet that the hook could check.
            device.sh("rm -rf /etc/ftpsd/tls*; find /srv/ftp -mindepth 1 -delete")
            self.take_plain(device)
            self.install(device, chain, key, status=7)
            table = ('\n[[certificate]]\nchain = "/etc/ftpsd/tls/chain.pem"\nkey = "/etc/ftpsd/tls/key.pem"\n')
            self.take(device, change=lambda text, number=number: change(number, text) + table)
            device.init("start")

    def take_plain(self, device):
        """The configuration without more."""
        self.take(device)

    def names(self, entries, clients=None):
        """The names that clients know: a list of addresses and names, in the order in which they are told."""
        lines = "".join(f"{address} {name}\n" for address, name in [("127.0.0.1", "localhost"), *entries])
        for client in clients or self.clients:
            client.write("/etc/hosts", lines)
            client.write("/etc/host.conf", "multi on\n")

    def content(self, size=500_000):
        """`served.bin`, the same on both servers; gives its sum."""
        content = os.urandom(size)
        for device in self.devices:
            device.write("/srv/ftp/served.bin", content, 0o644, "ftp:ftp")
        return hashlib.sha256(content).hexdigest()

    def transfers(self, host, kinds=(), clients=None):
        """All clients at once, each kind one after the other; gives the results and how many uploads each server has."""
        self.serial += 1
        served = self.content()
        before = [self.uploads(device) for device in self.devices]
        running = []
        for client in clients or self.clients:
            directory = os.path.join(self.place, f"transfers-{self.serial}-{client.name}")
            running.append(subprocess.Popen(
                client.words(sys.executable, CLIENTS, host, self.authority.certificate, directory,
                             f"{self.serial}-{client.name}", *kinds),
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        results = []
        for child in running:
            out, error = child.communicate(timeout=300)
            if child.returncode:
                raise Failure(error.decode(errors="replace"))
            results += [json.loads(line) for line in out.splitlines()]
        stored = [{name: digest for name, digest in self.uploads(device).items() if name not in old}
                  for device, old in zip(self.devices, before)]
        for result in results:
            result["stored"] = [number for number, there in enumerate(stored, 1)
                                if there.get(result["name"]) == result["sent"]]
            result["whole"] = result["failure"] is None and result["received"] == served and len(result["stored"]) >= 1
        return results, [len(there) for there in stored]

    def uploads(self, device):
        """The sums of what is in the root."""
        lines = device.sh("cd /srv/ftp; find . -maxdepth 1 -type f ! -name '.ftpsd-*' -exec sha256sum {} +").splitlines()
        return {name[2:]: digest for digest, name in (line.split(None, 1) for line in lines)}

    def all_whole(self, results, expected):
        """Every transfer came through."""
        bad = [result for result in results if not result["whole"]]
        if bad or len(results) != expected:
            logs = "\n".join(self.log(device)[-3000:] for device in self.devices)
            raise Failure(f"{len(results)} of {expected} ran; not whole: {bad}\n{logs}")

    def start_log(self):
        """The central log."""
        os.makedirs(self.logs)
        with open(os.path.join(self.place, "rsyslog.conf"), "w") as file:
            file.write(self.recipes["rsyslog.conf"].replace("/var/log/fleet", self.logs))
        self.collect()

    def collect(self):
        """Starts the central rsyslogd."""
        self.collector = self.spawn(self.tools.path("rsyslogd"), "-n", "-f", os.path.join(self.place, "rsyslog.conf"),
                                    "-i", os.path.join(self.place, "rsyslogd.pid"), stderr=subprocess.DEVNULL)

        def listens():
            with open("/proc/net/udp") as datagrams, open("/proc/net/tcp") as streams:
                return " 00000000:0202 " in datagrams.read() and " 00000000:0202 " in streams.read()
        wait_until("rsyslogd listens", listens)

    def between(self):
        """What a part has left does not disturb the next."""
        for device in self.devices:
            device.init("stop", status=None)

    def end(self):
        """Ends what was started."""
        for child in reversed(self.children):
            if child.poll() is None:
                child.kill()
            child.wait()


def fingerprint(client, host, authority, port=21):
    """SHA-256 of the certificate that a new client sees."""
    said = run(*client.words("openssl", "s_client", "-connect", f"{host}:{port}", "-starttls", "ftp", "-CAfile", authority),
               status=None)[1]
    pem = said[said.index("-----BEGIN"):said.index("-----END CERTIFICATE-----") + 25]
    return run("openssl", "x509", "-noout", "-fingerprint", "-sha256", input=pem.encode()).strip().split("=")[1]
