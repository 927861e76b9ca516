#!/usr/bin/env python3
"""Uploads small files in one session, for `make bench`, for tests/bench/run.

rustls, which the other client uses, spends each TLS 1.3 ticket once, and an upload brings no new
one; OpenSSL, like most clients' libraries, resumes with one as often as it likes. Arguments and
output are those of tests/bench/bench.rs.
"""

import re
import socket
import ssl
import sys
import time


def main():
    given = dict(word.split("=", 1) for word in sys.argv[1:])
    host, port = given["address"].rsplit(":", 1)
    count, size, kept = (int(given[key]) for key in ("count", "size", "kept"))
    content = open(given["content"], "rb").read()
    assert len(content) == size
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    control = socket.create_connection((host, int(port)), 60)
    control.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    unread = b""

    def reply():
        nonlocal unread
        while True:
            while b"\n" in unread:
                line, unread = unread.split(b"\n", 1)
                if re.match(rb"\d{3} ", line):
                    return int(line[:3]), line.decode("latin-1").strip()
            more = control.recv(4096)
            if not more:
                raise SystemExit("the control connection ended")
            unread += more

    def command(text, *codes):
        control.sendall(text.encode() + b"\r\n")
        return expect(text.split()[0], *codes)

    def expect(verb, *codes):
        code, line = reply()
        if code not in codes:
            raise SystemExit(f"{verb} was answered {line}")
        return line

    expect("connecting", 220)
    command("AUTH TLS", 234)
    control = context.wrap_socket(control)
    command(f"USER {given['user']}", 331)
    command(f"PASS {given['password']}", 230)
    command("PBSZ 0", 200)
    command("PROT P", 200)
    command("TYPE I", 200)
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.monotonic()
    resumed = 0
    for number in range(count):
        where = re.search(r"\((.*)\)", command("PASV", 227)).group(1).split(",")
        data = socket.create_connection((".".join(where[:4]), int(where[4]) * 256 + int(where[5])), 60)
        data.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        control.sendall(f"STOR {given['path']}{number % kept}\r\n".encode())
        data = context.wrap_socket(data, session=control.session)
        resumed += data.session_reused
        data.sendall(content)
        try:
            data.unwrap().close()
        except (OSError, ValueError):  # what became of the file the reply tells
            data.close()
        while True:
            code, line = reply()
            if code >= 200:
                break
        if code not in (226, 250):
            raise SystemExit(f"STOR was answered {line}")
    took = time.monotonic() - began
    name, version, _ = control.cipher()
    print(f"seconds={took:.6f} version={version} cipher={name} count={count} resumed={resumed}", flush=True)
    sys.stdin.readline()


main()
