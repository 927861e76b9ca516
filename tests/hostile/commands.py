"""Attacks by commands: long lines, floods, replies that nobody reads, ports that nobody uses."""

import ftplib
import os
import select
import socket
import ssl
import threading
import time

import honest
from attack import all_of, attack
from connections import reset
from server import Failure

MIB = 1 << 20
# Telnet: interrupt process, data mark, as clients send them before ABOR.
INTERRUPT = b"\xff\xf4\xff\xf2"


def expect(text, *codes):
    if not text.startswith(codes):
        raise Failure(f"{text!r}, where one of {codes} belongs")


@attack("long-lines")
def long_lines(server, pressure, count):
    """A line that is too long is one 500, however long; what follows it is heard."""
    rounds = count(20)

    def send(number):
        source = f"127.3.1.{number + 1}"
        with honest.connect(server, source) as clear:
            honest.line(clear)
            for _ in range(rounds):
                clear.sendall(b"RETR " + b"x" * MIB + b"\r\n")
                expect(honest.reply(clear), "500")
                expect(honest.command_of(clear, "NOOP"), "200")
            clear.sendall(b"\xff" * MIB)
        with honest.secured(server, source, logged_in=True) as secured:
            for verb in [b"", b"CWD ", b"MLST ", b"SITE "]:
                secured.sendall(verb + b"/.." * (MIB // 3) + b"\r\n")
                expect(honest.reply(secured), "500")
            # The longest that is none too long, and lines of nothing.
            secured.sendall(b"\r\n\n\0\r\n" * 500)
            secured.sendall(b"NOOP\r\n")
            while (answer := honest.reply(secured)).startswith("500"):
                pass
            expect(answer, "200")
        pressure.on()

    all_of(send, range(4), 4)
    return f"4 x {rounds} lines of 1 MiB in clear, 4 each over TLS, and empty ones"


class Lines:
    """Replies of a socket counted in pieces."""

    def __init__(self, sock):
        self.sock, self.left = sock, b""

    def code(self):
        while b"\r\n" not in self.left:
            more = self.sock.recv(65536)
            if not more:
                raise EOFError(f"the end after {self.left!r}")
            self.left += more
        found, _, self.left = self.left.partition(b"\r\n")
        return found[:3].decode()


def pipelined(sock, command, number):
    """All in pieces of a hundred, which neither side can choke on; the codes of the replies."""
    lines, codes = Lines(sock), set()
    for _ in range(number // 100 + 1):
        sock.sendall(command * 100)
        codes |= {lines.code() for _ in range(100)}
    return codes


@attack("noops")
def noops(server, pressure, count):
    most = count(10_000)

    def send(number):
        source = f"127.3.2.{number + 1}"
        if number % 2:
            sock = honest.connect(server, source)
            honest.line(sock)
        else:
            sock = honest.secured(server, source, logged_in=True)
        with sock:
            codes = pipelined(sock, b"NOOP\r\n", most)
            if codes != {"200"}:
                raise Failure(f"NOOP was answered {codes}")
        pressure.on()

    all_of(send, range(4), 4)
    return f"4 x {most} pipelined NOOPs, half over TLS; each had its reply"


def choke(sock):
    """Sends commands until the server takes no more."""
    sock.setblocking(False)
    command, quiet = b"HELP\r\nFEAT\r\nSTAT\r\nNOOP\r\n" * 100, 0
    for _ in range(2000):
        try:
            sock.send(command)
            quiet = 0
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            quiet += 1
            if quiet == 3:
                return
            select.select([], [sock], [], 0.2)
    raise Failure("the server took commands without end though nobody read the replies")


@attack("unread-replies", long=True)
def unread_replies(server, pressure, count):
    """The server waits 20 s for room, then that session is over."""
    sockets = []
    for number in range(6):
        sock = honest.connect(server, f"127.3.3.{number % 2 + 1}")
        honest.line(sock)
        sockets.append(sock)
    for number in range(6):
        sockets.append(honest.secured(server, f"127.3.3.{number % 2 + 3}", logged_in=True))
    for sock in sockets:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    all_of(choke, sockets, 12)
    pressure.hold()
    peers = [f"peer=127.3.3.{number} reason=" for number in range(1, 5)]
    deadline = time.monotonic() + 60
    while sum(server.log().count(peer) for peer in peers) < 12:
        if time.monotonic() > deadline:
            raise Failure("replies that nobody reads hold a session for a minute")
        time.sleep(0.1)
    for sock in sockets:
        sock.close()
    return "12 sessions (half logged in) that send until the server stops taking, and never read"


@attack("aborts")
def aborts(server, pressure, count):
    """ABOR in any number at any time has one reply, and the session stays in step."""
    with open(f"{server.root}/big", "wb") as file:
        file.truncate(64 * MIB)
    rounds = count(100)

    def storm(number):
        with honest.secured(server, f"127.3.4.{number + 1}", logged_in=True) as control:
            for turn in range(rounds):
                port = honest.passive(control)
                verb = ["RETR big", f"STOR aborted-{number}", "MLSD"][turn % 3]
                data = None
                if turn % 4:
                    data = honest.connect(server, f"127.3.4.{number + 1}", port)
                control.sendall(verb.encode() + b"\r\n")
                burst = turn % 20 + 1
                if data:
                    expect(honest.reply(control), "150")
                if turn % 4 > 1:
                    data = control.context.wrap_socket(data, session=control.session)
                control.sendall((INTERRUPT + b"ABOR\r\n") * burst + b"NOOP\r\n")
                codes = [honest.reply(control)[:3] for _ in range(burst + 2)]
                # A listing may have been complete. Without a connection there was no mark.
                if codes[0] not in ("426", "226", "425", "522") or set(codes[1:-1]) - {"226"} or codes[-1] != "200":
                    raise Failure(f"{verb}, then {burst} x ABOR: {codes}")
                if data:
                    reset(data) if turn % 2 else data.close()
                pressure.on()
        if os.path.exists(f"{server.root}/aborted-{number}"):
            raise Failure("an upload that was aborted has been published")

    all_of(storm, range(4), 4)
    return f"4 x {rounds} transfers with 1 to 20 ABORs each, Telnet signals before them"


@attack("passives", twice=True)
def passives(server, pressure, count):
    most, ports = count(10_000), set()

    def ask(number):
        with honest.secured(server, f"127.3.5.{number + 1}", logged_in=True) as control:
            for turn in range(most // 4):
                if turn % 3:
                    ports.add(honest.passive(control))
                else:
                    expect(honest.command_of(control, "PASV"), "227")
                pressure.on()
                if turn % 50 == 0:
                    # One that is given up at once.
                    try:
                        honest.connect(server, f"127.3.5.{number + 1}", honest.passive(control)).close()
                    except ConnectionError:
                        pass
            expect(honest.command_of(control, "PASV"), "227")

    all_of(ask, range(4), 4)
    return f"{most} PASV and EPSV without a transfer, {len(ports)} ports"


@attack("strangers")
def strangers(server, pressure, count):
    """Others at a passive port: of foreign addresses, and of the client's, silent or talking rubbish.
    The client's own connection has the transfer nevertheless."""
    most, data = count(200), os.urandom(300_000)
    with open(f"{server.root}/mine", "wb") as file:
        file.write(data)

    def beset(number):
        source = f"127.3.6.{number + 1}"
        with honest.secured(server, source, logged_in=True) as control:
            for turn in range(2):
                port, crowd = honest.passive(control), []
                for other in range(most):
                    foreign = source if other % 2 else f"127.3.7.{other % 250 + 1}"
                    try:
                        sock = honest.connect(server, foreign, port, timeout=2)
                        crowd.append(sock)
                        if other % 4 == 1:
                            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
                    except OSError:
                        # Its queue is full, or it was refused.
                        break
                control.sendall(b"RETR mine\r\n")
                # Whoever fills the queue delays the client's own SYN; the kernel repeats it.
                own = honest.connect(server, source, port)
                expect(honest.reply(control), "150")
                own = control.context.wrap_socket(own, session=control.session)
                kept = b""
                while more := own.recv(65536):
                    kept += more
                own.close()
                expect(honest.reply(control), "226")
                if kept != data:
                    raise Failure("another file came")
                for sock in crowd:
                    sock.close()
                pressure.on()

    all_of(beset, range(3), 3)
    return f"6 transfers with up to {most} strangers at the port each; all came to the client"


@attack("changing-directory")
def changing_directory(server, pressure, count):
    """What stays is listed once each, whatever comes and goes meanwhile."""
    place = f"{server.root}/changing"
    os.mkdir(place)
    os.chmod(place, 0o777)
    staying = {f"stays-{number}" for number in range(500)}
    for name in staying:
        open(f"{place}/{name}", "w").close()
    over = threading.Event()

    def change():
        number = 0
        while not over.is_set():
            number += 1
            name = f"{place}/goes-{number % 700}"
            try:
                if number % 3 == 0:
                    os.unlink(name)
                elif number % 3 == 1:
                    os.rename(name, f"{place}/goes-{number * 7 % 700}")
                else:
                    os.mkdir(name) if number % 2 else open(name, "w").close()
            except OSError:
                pass

    def look(number):
        listed = 0
        with honest.log_in(server, f"127.3.8.{number + 1}", verified=False) as ftp:
            ftp.cwd("changing")
            for _ in range(rounds):
                for command in ["MLSD", "NLST", "LIST"]:
                    lines = []
                    ftp.retrlines(command, lines.append)
                    names = [line.split()[-1] for line in lines]
                    found = [name for name in names if name.startswith("stays")]
                    if len(found) != len(staying) or set(found) != staying:
                        raise Failure(f"{command} of what changes lost or doubled what stays")
                    listed += 1
                    pressure.on()
            ftp.quit()
        return listed

    rounds = count(60)
    changing = threading.Thread(target=change, daemon=True)
    changing.start()
    try:
        listings = all_of(look, range(3), 3)
    finally:
        over.set()
        changing.join()
        os.system(f"rm -rf '{place}'")
    return f"{sum(listings)} listings of a directory in which 700 names come and go"


@attack("patterns")
def patterns(server, pressure, count):
    """Wildcards and pathnames that take long where they are done badly."""
    for number in range(50):
        open(f"{server.root}/{'a' * 100}{number}", "w").close()
    rounds = count(40)

    def ask(number):
        with honest.log_in(server, f"127.3.9.{number + 1}", verified=False) as ftp:
            pressure.on()
            for _ in range(rounds):
                for path in ["*a" * 100 + "b", "?" * 200, "[" * 250, "[!-~]*" * 40 + "x", "./" * 400 + "*"]:
                    for command in ["NLST", "LIST"]:
                        try:
                            ftp.retrlines(f"{command} {path}", len)
                        except ftplib.error_perm:
                            # No pattern, but a name that is not there, or is too long.
                            pass
                ftp.sendcmd("STAT " + "*a" * 120)
            ftp.quit()

    all_of(ask, range(4), 4)
    for name in os.listdir(server.root):
        if name.startswith("aaa"):
            os.unlink(f"{server.root}/{name}")
    return f"4 x {rounds * 11} listings with patterns made to take long, over 50 long names"


@attack("hashes")
def hashes(server, pressure, count):
    """Work that takes all the CPU there is, given up by ABOR or by leaving."""
    with open(f"{server.root}/vast", "wb") as file:
        file.truncate(64 << 30)
    sockets = all_of(lambda n: honest.secured(server, f"127.3.10.{n % 4 + 1}", logged_in=True), range(12), 4)
    for sock in sockets:
        sock.sendall(b"HASH vast\r\n")
    pressure.hold()
    for number, sock in enumerate(sockets):
        if number % 2:
            sock.sendall(b"ABOR\r\nNOOP\r\n")
            for code in ["426", "226", "200"]:
                expect(honest.reply(sock), code)
            sock.close()
        else:
            reset(sock)
    os.unlink(f"{server.root}/vast")
    return "12 sessions that have 64 GiB hashed, ended by ABOR or RST"
