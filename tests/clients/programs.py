"""The clients: what each is called, what it can do, how it is run."""

import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
# Debian's, which has Debian's modules.
PYTHON = "/usr/bin/python3"
EVERYTHING = {"put", "get", "list", "reget", "reput"}
USER, PASSWORD = "anna", "pass word"
ENCODED = "pass%20word"


class NotHere(Exception):
    """The client is not installed."""


def built():
    """What `make clients` has fetched and built is here."""
    target = os.environ.get("CARGO_TARGET_DIR") or os.path.join(HERE, "../../target")
    return os.path.join(os.path.abspath(target), "clients")


def first(words):
    """What a program says of its version."""
    if not shutil.which(words[0]):
        raise NotHere(f"no {words[0]}")
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          stdin=subprocess.DEVNULL, timeout=60)
    text = done.stdout.decode(errors="replace")
    if done.returncode != 0:
        raise NotHere(text.strip().splitlines()[-1] if text.strip() else f"no {words}")
    return text


def package(name):
    """The upstream version of a Debian package."""
    text = first(["dpkg-query", "-W", "-f", "${Version}", name])
    return text.split(":")[-1].split("-")[0].split("+")[0].split("~")[0]


class Client:
    """`key` names it on the command line, `name` in the table; `kinds` are explicit, implicit, or
    plain for one without TLS. `can` has the verbs of its steps. `pinned` is the only version of TLS
    that it speaks by its own setting, `extra` what the server's configuration has for it besides."""

    kinds = ("explicit", "implicit")
    can = EVERYTHING
    # Whether it has no listing of its own, but asks for one all the same.
    lists_unasked = False

    def __init__(self, key, name, variant="", pinned=None, extra=""):
        self.key, self.given_name, self.variant = key, name, variant
        self.pinned, self.extra = pinned, extra

    def name(self):
        return self.given_name.format(self.version())

    def build(self):
        """Whatever must be made of sources first."""

    def words(self, session):
        """What every program of ours here takes."""
        return [session.host, session.port, session.kind, session.certificate, self.variant or "-",
                *session.steps]


class Program(Client):
    """One program of ours in the client's language."""

    def __init__(self, key, name, command, version, variant="", kinds=None, environment=None,
                 pinned=None, extra=""):
        super().__init__(key, name, variant, pinned, extra)
        self.command, self.asked, self.environment = command, version, environment or {}
        self.kinds = kinds or self.kinds

    def version(self):
        return self.asked()

    def run(self, session):
        session.command([*self.command(), *self.words(session)], environment=self.environment)


class Curl(Client):
    def version(self):
        text = first(["curl", "--version"])
        library = "OpenSSL" if "OpenSSL/" in text else "GnuTLS" if "GnuTLS/" in text else "another TLS"
        return f"{text.split()[1]} with {library}"

    def run(self, session):
        scheme = "ftps" if session.kind == "implicit" else "ftp"
        root = f"{scheme}://{session.host}:{session.port}/"
        words = ["curl", "-q", "-sS", "--fail-early"]
        for step in session.steps:
            verb, name = step.split(":")
            words += ["--user", f"{USER}:{PASSWORD}", "--cacert", session.certificate, "--ssl-reqd",
                      "--max-time", "60", *self.variant.split()]
            words += {"put": ["-T", name, root + name], "get": ["-o", name, root + name],
                      "list": ["-l", "-o", name, root], "reget": ["-C", "-", "-o", name, root + name],
                      "reput": ["-C", "-", "-T", name, root + name]}[verb] + ["--next"]
        session.command(words[:-1])


class Lftp(Client):
    def version(self):
        return first(["lftp", "--version"]).split("Version ")[1].split()[0]

    def run(self, session):
        scheme = "ftps" if session.kind == "implicit" else "ftp"
        lines = ["set cmd:fail-exit true", "set net:max-retries 1", "set net:timeout 30",
                 f"set ssl:ca-file {session.certificate}", *filter(None, self.variant.split(";")),
                 f'open --user {USER} --password "{PASSWORD}" {scheme}://{session.host}:{session.port}']
        lines += [{"put": "put {}", "get": "get {}", "list": "cls -1 > {}", "reget": "get -c {}",
                   "reput": "put -c {}"}[verb].format(name)
                  for verb, name in (step.split(":") for step in session.steps)]
        session.command(["lftp", "--norc", "-c", "; ".join(lines)])


class Wget(Client):
    can = {"get", "list", "reget"}

    def version(self):
        return first(["wget", "--version"]).split()[2]

    def run(self, session):
        implicit = ["--ftps-implicit"] if session.kind == "implicit" else []
        root = f"ftps://{session.host}:{session.port}/"
        base = ["wget", "--no-config", "-nv", "--tries=1", "--timeout=30", *implicit, f"--user={USER}",
                f"--password={PASSWORD}", f"--ca-certificate={session.certificate}", *self.variant.split()]
        downloads = [root + step[4:] for step in session.steps if step.startswith("get:")]
        if downloads and not session.command([*base, *downloads]):
            return
        for step in session.steps:
            verb, name = step.split(":")
            if verb == "list" and not session.command([*base, "-O", name, root]):
                return
            if verb == "reget" and not session.command([*base, "-c", root + name]):
                return


class Rclone(Client):
    can = {"put", "get", "list"}

    def version(self):
        return first(["rclone", "version"]).split()[1].lstrip("v").split("-")[0]

    def run(self, session):
        obscured = subprocess.run(["rclone", "obscure", PASSWORD], stdout=subprocess.PIPE,
                                  check=True).stdout.decode().strip()
        tls = "--ftp-tls" if session.kind == "implicit" else "--ftp-explicit-tls"
        common = ["--config", "/dev/null", "--ftp-host", session.host, "--ftp-port", session.port,
                  "--ftp-user", USER, "--ftp-pass", obscured, tls, "--retries", "1", "--low-level-retries", "1", "--contimeout", "20s", "--timeout",
                  "20s", *self.variant.split()]
        # --ca-cert is not for this part of it; as other programs in Go it looks there.
        trusted = {"SSL_CERT_FILE": session.certificate}
        for verb, pattern, words in [("put", "up-*", [".", ":ftp:"]), ("get", "down-*", [":ftp:", "."])]:
            if any(step.startswith(verb + ":") for step in session.steps):
                if not session.command(["rclone", "copy", *words, "--include", pattern, *common], environment=trusted):
                    return
        if "list:listing" in session.steps:
            before, session.output = session.output, ""
            if session.command(["rclone", "lsf", ":ftp:", *common], environment=trusted):
                with open(os.path.join(session.here, "listing"), "w") as file:
                    file.write(session.output)
            session.output = before + session.output
