#!/usr/bin/python3
"""Logs in with the password "wrong" from one address with one name after the other.

guess.py ADDRESS < names, one in hexadecimal digits to the line
"""
import socket
import ssl
import sys

context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE


def reply(stream):
    line = stream.readline()
    while line[3:4] == b"-":
        line = stream.readline()
    return line[:3]


for name in sys.stdin:
    plain = socket.create_connection(("127.0.0.1", 21), 20, (sys.argv[1], 0))
    stream = plain.makefile("rb")
    assert reply(stream) == b"220"
    plain.sendall(b"AUTH TLS\r\n")
    assert reply(stream) == b"234"
    with context.wrap_socket(plain) as secure:
        stream = secure.makefile("rb")
        secure.sendall(b"USER " + bytes.fromhex(name) + b"\r\n")
        assert reply(stream) == b"331"
        secure.sendall(b"PASS wrong\r\n")
        code = reply(stream)
        assert code == b"530", code
