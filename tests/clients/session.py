"""One session of one client: the files it is to move, and whether it moved them."""

import hashlib
import os
import random
import re
import shutil
import signal
import subprocess

# Uploads, and downloads, by turns small and large.
COUNT = 5
SIZES = [1024, 3 * 1024 * 1024]
# How long a program may take for one session.
PATIENCE = 120

UP = [f"put:up-{number}" for number in range(COUNT)]
DOWN = [f"get:down-{number}" for number in range(COUNT)]
LIST, REGET, REPUT = "list:listing", "reget:part", "reput:grown"


def content(name):
    """What the file of this name has; no two are alike."""
    size = SIZES[int(name[-1]) % 2] if "-" in name else SIZES[1]
    return random.Random(name).randbytes(size)


def digest(path):
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).digest()
    except FileNotFoundError:
        return None


def is_whole(path, name):
    return digest(path) == hashlib.sha256(content(name)).digest()


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)


def shown(server):
    """The server's certificate in a file of its own, for its file has the key too."""
    path = os.path.join(server.directory, "shown.pem")
    with open(server.certificate) as file:
        begin = "-----BEGIN CERTIFICATE-----"
        write(path, (begin + file.read().split(begin)[1]).encode())
    return path


class Session:
    """What `client` does of `steps` at `server`. `kind` is explicit, implicit or plain."""

    def __init__(self, client, server, kind, steps):
        self.client, self.server, self.kind, self.steps = client, server, kind, steps
        self.host, self.port = server.host, server.implicit if kind == "implicit" else server.explicit
        self.certificate = shown(server)
        self.home = os.path.join(server.directory, "home")
        self.here = os.path.join(self.home, "files")
        self.output, self.status = "", None
        self.prepare()
        before = len(server.log())
        try:
            client.run(self)
        except subprocess.TimeoutExpired:
            self.status = f"no end within {PATIENCE} s"
        self.log = self.settled(before)
        self.done = {step for step in steps if self.is_done(step)}

    def settled(self, before):
        """The log of this session, once the server has no other."""
        self.server.quiet()
        lines = self.server.log()[before:].splitlines()
        return [line for line in lines if ": counters " not in line]

    def prepare(self):
        """Files on both sides, and nothing of the session before."""
        shutil.rmtree(self.home, ignore_errors=True)
        os.makedirs(self.here)
        root = self.server.root
        for name in os.listdir(root):
            os.unlink(os.path.join(root, name))
        for step in UP:
            name = step[4:]
            write(os.path.join(self.here, name), content(name))
        for step in DOWN:
            name = step[4:]
            write(os.path.join(root, name), content(name))
        write(os.path.join(root, "part"), content("part"))
        write(os.path.join(root, "grown"), content("grown")[:SIZES[1] // 2])
        if REGET in self.steps:
            write(os.path.join(self.here, "part"), content("part")[:SIZES[1] // 2])
        if REPUT in self.steps:
            write(os.path.join(self.here, "grown"), content("grown"))
        if os.geteuid() == 0:
            owner = os.stat(root)
            for name in os.listdir(root):
                os.chown(os.path.join(root, name), owner.st_uid, owner.st_gid)

    def is_done(self, step):
        verb, name = step.split(":")
        here, there = os.path.join(self.here, name), os.path.join(self.server.root, name)
        if verb == "list" and self.client.lists_unasked:
            return bool(re.search(r": list .* result=complete", self.text()))
        if verb == "list":
            try:
                with open(here, encoding="utf-8", errors="replace") as file:
                    listed = file.read()
            except FileNotFoundError:
                return False
            return all(name in listed for name in [*(step[4:] for step in DOWN), "part", "grown"])
        if verb == "put":
            return is_whole(there, name)
        if verb == "reput":
            return is_whole(there, name) and self.went_on("store", name)
        if verb == "reget":
            return is_whole(here, name) and self.went_on("retrieve", name)
        return is_whole(here, name)

    def went_on(self, event, name):
        """Not all of it moved, by the server's log."""
        moved = re.findall(rf": {event} .* path=/{name} bytes=(\d+) .* result=complete", self.text())
        return bool(moved) and max(map(int, moved)) <= SIZES[1] // 2 + 4096

    def text(self):
        return "\n".join(self.log)

    def logins(self):
        return self.text().count(" result=accepted")

    def is_whole(self):
        return len(self.done) == len(self.steps)

    def command(self, words, stdin=None, environment=None, patience=PATIENCE):
        """Runs a program of the client to its end, with all that it starts; True where it succeeded."""
        given = subprocess.PIPE if stdin is not None else subprocess.DEVNULL
        process = subprocess.Popen(
            [str(word) for word in words], cwd=self.here, stdin=given, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, "HOME": self.home, "LC_ALL": "C.UTF-8", **(environment or {})})
        try:
            text, _ = process.communicate(stdin.encode() if stdin is not None else None, patience)
            self.output += text.decode(errors="replace")
            self.status = process.returncode
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
        return self.status == 0

    def reasons(self):
        """What the log has of failures, each once, without what is this session's alone."""
        found = []
        for line in self.log:
            wrong = re.search(r": (data-\S+|handshake-failed|no-\S+|turned-away|login|closed) ", line)
            if not wrong or " result=accepted" in line:
                continue
            if wrong.group(1) == "closed" and re.search(r"reason=(quit|closed) ", line):
                continue
            short = re.sub(r" (session|peer|seconds)=\S+", "", line)
            if short not in found:
                found.append(short)
        return found

    def said(self):
        """The last thing that the client said."""
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        return lines[-1][:200] if lines else ""
