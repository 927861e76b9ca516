#!/usr/bin/env python3
"""A client that takes its time for everything, as the blocks of a PLC do.

    plc.py HOST PORT CERTIFICATE WAIT TRANSFERS [TLS [HELLO]]

It waits WAIT seconds before each command, before it connects a data connection, in the middle of
each TLS handshake, between the blocks of a file and before it closes; and HELLO seconds (0) before
the first message of a handshake. So many files of 64 KiB go up and come back, whole or it ends with
a word why. TLS is any, 1.2 or 1.3. What each step took is on standard output.
"""

import hashlib
import os
import re
import socket
import ssl
import sys
import time

PATIENCE = 120
SIZE, BLOCK = 65536, 16384


class Slow:
    """TLS over a socket, by hand, so that there can be a pause inside the handshake."""

    def __init__(self, sock, context, host, wait, hello, session=None):
        self.sock = sock
        time.sleep(hello)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=host, session=session)
        flights = 0
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                # The first flight at once, the next ones after the pause.
                if flights:
                    time.sleep(wait)
                flights += 1
                self.flush()
                self.fill()
        time.sleep(wait)
        self.flush()

    def flush(self):
        data = self.outgoing.read()
        if data:
            self.sock.sendall(data)

    def fill(self):
        data = self.sock.recv(65536)
        if data:
            self.incoming.write(data)
        else:
            self.incoming.write_eof()

    def send(self, data):
        self.tls.write(data)
        self.flush()

    def receive(self):
        while True:
            try:
                return self.tls.read(65536)
            except ssl.SSLWantReadError:
                self.fill()
            except ssl.SSLZeroReturnError:
                return b""

    def close(self):
        try:
            self.tls.unwrap()
        except (ssl.SSLWantReadError, ssl.SSLError):
            pass
        self.flush()
        self.sock.close()


class Block:
    def __init__(self, host, port, certificate, wait, version, hello):
        self.host, self.wait, self.hello = host, wait, hello
        self.text, self.begun = b"", time.monotonic()
        self.context = ssl.create_default_context(cafile=certificate)
        if version != "any":
            wanted = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[version]
            self.context.minimum_version = self.context.maximum_version = wanted
        self.control = socket.create_connection((host, port), PATIENCE)
        self.link = None
        self.expect("220")

    def say(self, what):
        print(f"{time.monotonic() - self.begun:7.1f} s  {what}", flush=True)

    def line(self):
        while b"\n" not in self.text:
            data = self.link.receive() if self.link else self.control.recv(4096)
            if not data:
                sys.exit("the server closed the control connection")
            self.text += data
        line, self.text = self.text.split(b"\n", 1)
        return line.decode().strip()

    def expect(self, code):
        reply = self.line()
        self.say(reply)
        if not reply.startswith(code):
            sys.exit(f"not {code}: {reply}")
        return reply

    def command(self, text, code):
        time.sleep(self.wait)
        data = (text + "\r\n").encode()
        self.link.send(data) if self.link else self.control.sendall(data)
        return self.expect(code)

    def login(self):
        self.command("AUTH TLS", "234")
        self.link = Slow(self.control, self.context, self.host, self.wait, self.hello)
        self.say("the control connection is protected")
        self.command("USER anna", "331")
        self.command("PASS pass word", "230")
        self.command("PBSZ 0", "200")
        self.command("PROT P", "200")
        self.command("TYPE I", "200")

    def data(self, command):
        """The command goes first and the data connection comes after it."""
        numbers = re.search(r"\((\d+),(\d+),(\d+),(\d+),(\d+),(\d+)\)", self.command("PASV", "227")).groups()
        port = int(numbers[4]) * 256 + int(numbers[5])
        time.sleep(self.wait)
        self.link.send((command + "\r\n").encode())
        time.sleep(self.wait)
        plain = socket.create_connection((self.host, port), PATIENCE)
        # RFC 959 lets 150 come before or after.
        self.expect("150")
        return Slow(plain, self.context, self.host, self.wait, self.hello, self.link.tls.session)

    def store(self, name, data):
        link = self.data(f"STOR {name}")
        for start in range(0, len(data), BLOCK):
            link.send(data[start:start + BLOCK])
            self.say(f"{name}: {start + BLOCK} bytes sent")
            time.sleep(self.wait)
        link.close()
        self.expect("226")

    def retrieve(self, name):
        link, found = self.data(f"RETR {name}"), b""
        while True:
            block = link.receive()
            if not block:
                break
            found += block
            self.say(f"{name}: {len(found)} bytes came")
            time.sleep(self.wait)
        link.close()
        self.expect("226")
        return found


def main():
    given = sys.argv[1:]
    host, port, certificate, wait, transfers, version, hello = given + ["any", "0"][len(given) - 5:]
    block = Block(host, int(port), certificate, float(wait), version, float(hello))
    block.login()
    for number in range(int(transfers)):
        data = os.urandom(SIZE)
        block.store(f"recipe-{number}", data)
        found = block.retrieve(f"recipe-{number}")
        if hashlib.sha256(found).digest() != hashlib.sha256(data).digest():
            sys.exit(f"recipe-{number} came back otherwise")
        block.say(f"recipe-{number} is whole")
    block.command("QUIT", "221")


if __name__ == "__main__":
    try:
        main()
    except (OSError, ssl.SSLError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
