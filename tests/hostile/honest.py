"""The clients that mean well."""

import contextlib
import ftplib
import hashlib
import io
import os
import socket
import ssl
import sys
import time

from server import PASSWORD, USER

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../clients/python"))
from by_ftplib import FTPS  # noqa: E402

# Each visit comes from another address of these networks, as penalties and shares go by address.
COMMON, ENGINEER = "127.8", "127.9"
COUNT = 0


def context(server=None, version=None):
    """What a client goes by: the server's own certificate where there is one, else none."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    if server:
        made.load_verify_locations(server.certificate)
    else:
        made.verify_mode = ssl.CERT_NONE
    if version:
        made.minimum_version = made.maximum_version = version
    return made


def address(network=COMMON):
    """Another one each time."""
    global COUNT
    COUNT += 1
    number = (os.getpid() * 251 + COUNT) % 62_000
    return f"{network}.{number // 250}.{number % 250 + 1}"


def log_in(server, source, timeout=30, version=None, verified=True):
    """A session with private data connections."""
    ftp = FTPS(context=context(server if verified else None, version), timeout=timeout,
               source_address=(source, 0))
    try:
        ftp.connect(server.host, server.explicit)
        ftp.login(USER, PASSWORD)
        ftp.prot_p()
    except BaseException:
        ftp.close()
        raise
    return ftp


def visit(server, network=COMMON, size=100_000):
    """Logs in, moves a file up and down, and gives the seconds from SYN to the last reply."""
    name, data = f"visit-{os.getpid()}-{COUNT}", os.urandom(size)
    begun = time.monotonic()
    with contextlib.closing(log_in(server, address(network))) as ftp:
        ftp.storbinary(f"STOR {name}", io.BytesIO(data))
        back = hashlib.sha256()
        ftp.retrbinary(f"RETR {name}", back.update)
        took = time.monotonic() - begun
        assert back.digest() == hashlib.sha256(data).digest(), "another file came back"
        ftp.delete(name)
        ftp.quit()
    return took


def connect(server, source, port=None, timeout=30):
    """A bare connection."""
    return socket.create_connection((server.host, port or server.explicit), timeout, (source, 0))


def secured(server, source, port=None, version=None, logged_in=False):
    """A socket with TLS up, and its reader of lines; perhaps with a login."""
    raw = connect(server, source, port)
    try:
        if port in (None, server.explicit):
            greeted(raw)
            raw.sendall(b"AUTH TLS\r\n")
            line(raw)
        tls = context(None, version).wrap_socket(raw)
        if port == server.implicit:
            line(tls)
        if logged_in:
            for command, code in [(f"USER {USER}", "331"), (f"PASS {PASSWORD}", "230"),
                                  ("PBSZ 0", "200"), ("PROT P", "200"), ("TYPE I", "200")]:
                assert command_of(tls, command).startswith(code), command
        return tls
    except BaseException:
        raw.close()
        raise


def greeted(sock):
    """The greeting; 421 in its place is the end."""
    text = line(sock)
    if not text.startswith("220"):
        raise EOFError(f"turned away: {text!r}")


def line(sock):
    """One line of a reply, byte by byte, so that nothing after it is taken."""
    text = b""
    while not text.endswith(b"\n"):
        byte = sock.recv(1)
        if not byte:
            raise EOFError(f"the end after {text!r}")
        text += byte
    return text.decode("latin-1")


def command_of(sock, command):
    """A command and its reply of one line, or the last of several."""
    sock.sendall(command.encode() + b"\r\n")
    return reply(sock)


def reply(sock):
    while True:
        text = line(sock)
        if text[:3].isdigit() and text[3] == " ":
            return text


def passive(sock):
    """The port of a passive endpoint."""
    text = command_of(sock, "EPSV")
    assert text.startswith("229 "), text
    return int(text.split("|||")[1].split("|")[0])
