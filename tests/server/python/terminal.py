"""Starts PROGRAM with CONFIG and a terminal for its log that nobody reads, and connects until far
more was logged than a terminal holds. Usage: terminal.py PROGRAM CONFIG PORT"""
import os
import pty
import signal
import socket
import subprocess
import sys

program, config, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
_unread, terminal = pty.openpty()
server = subprocess.Popen([program, "-F", "-f", config], stderr=terminal)
try:
    os.close(terminal)
    served = 0
    # The first try may come before the server listens; a refusal is immediate.
    while served < 400:
        if server.poll() is not None:
            sys.exit("the server ended")
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as control:
                greeting = control.recv(3)
        except ConnectionRefusedError:
            continue
        if greeting not in (b"220", b"421"):
            sys.exit(f"connection {served}: {greeting!r}")
        served += 1
    server.send_signal(signal.SIGTERM)
    print(served, server.wait(timeout=60))
finally:
    server.kill()
    server.wait()
