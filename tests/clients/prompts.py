"""Clients that read commands from a terminal, and those without TLS."""

import os

from programs import Client, PASSWORD, USER, first, package


class Gftp(Client):
    """It takes a session for each file. Its listings are for the screen."""

    lists_unasked = True
    can = {"put", "get", "list"}

    def version(self):
        first(["sh", "-c", "command -v gftp-text || { echo no gftp-text; exit 1; }"])
        return package("gftp-text")

    def run(self, session):
        scheme = "ftpsi" if session.kind == "implicit" else "ftps"
        lines = [f"open {scheme}://{USER}:{PASSWORD}@{session.host}:{session.port}"]
        lines += ["ls" if step.startswith("list:") else step.replace(":", " ") for step in session.steps]
        session.command(["gftp-text"], "\n".join([*lines, "quit", ""]))


class Prompt(Client):
    """The ftp of BSD and its kin: reads commands from standard input."""

    can = {"put", "get", "list", "reget"}

    def __init__(self, key, name, program, options, kinds, extra=""):
        super().__init__(key, name, extra=extra)
        self.program, self.options, self.kinds = program, options, kinds

    def version(self):
        first(["sh", "-c", f"command -v {self.program} || {{ echo no {self.program}; exit 1; }}"])
        return package(self.program)

    def run(self, session):
        lines = [f'user {USER} "{PASSWORD}"', "binary"]
        lines += ["nlist . listing" if step.startswith("list:") else step.replace(":", " ")
                  for step in session.steps]
        options = [option.format(certificate=session.certificate) for option in self.options]
        session.command([self.program, *options, session.host, session.port], "\n".join([*lines, "quit", ""]))


class Each(Client):
    """A program for each direction, or one that loads alone. `commands` has the words by verb."""

    kinds = ("plain",)

    def __init__(self, key, name, asked, commands):
        super().__init__(key, name)
        self.asked, self.commands, self.can = asked, commands, set(commands)

    def version(self):
        return self.asked()

    def run(self, session):
        for step in session.steps:
            verb, name = step.split(":")
            words = [word.format(host=session.host, port=session.port, name=name, user=USER, password=PASSWORD)
                     for word in self.commands[verb]]
            before, session.output = session.output, ""
            done = session.command(words)
            if verb == "list" and done:
                with open(os.path.join(session.here, name), "w") as file:
                    file.write(session.output)
            session.output = before + session.output
            if not done:
                return


def busybox():
    return first(["sh", "-c", "busybox | head -1"]).split()[1].lstrip("v")


PLAIN = [
    Prompt("tnftp", "tnftp {}", "tnftp", ["-n", "-i", "-p"], ("plain",)),
    Each("ncftp", "ncftp {}", lambda: package("ncftp"), {
        "put": ["ncftpput", "-u", "{user}", "-p", "{password}", "-P", "{port}", "{host}", "/", "{name}"],
        "get": ["ncftpget", "-u", "{user}", "-p", "{password}", "-P", "{port}", "{host}", ".", "/{name}"],
        "list": ["ncftpls", "-u", "{user}", "-p", "{password}", "-P", "{port}", "ftp://{host}/"]}),
    Each("busybox", "BusyBox {} `ftpget`, `ftpput`", busybox, {
        "put": ["busybox", "ftpput", "-u", "{user}", "-p", "{password}", "-P", "{port}", "{host}", "{name}"],
        "get": ["busybox", "ftpget", "-u", "{user}", "-p", "{password}", "-P", "{port}", "{host}", "{name}"],
        "reget": ["busybox", "ftpget", "-c", "-u", "{user}", "-p", "{password}", "-P", "{port}", "{host}", "{name}"]}),
    Each("aria2", "aria2 {}", lambda: first(["aria2c", "--version"]).split()[2], {
        "get": ["aria2c", "-q", "--no-conf", "--file-allocation=none", "--ftp-user={user}",
                "--ftp-passwd={password}", "ftp://{host}:{port}/{name}"],
        "reget": ["aria2c", "-q", "--no-conf", "-c", "--file-allocation=none", "--ftp-user={user}",
                  "--ftp-passwd={password}", "ftp://{host}:{port}/{name}"]}),
]
