"""Clients in network namespaces of their own, each with a link to the one in which the server runs."""

import contextlib
import ctypes
import os
import subprocess

NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)
# The server's own address, and the clients'.
SERVER = "10.98.0.1"


def source(number):
    return f"10.98.1.{number + 1}"


def system(call, *arguments):
    if call(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call.__name__}: {os.strerror(number)}")


def enter(namespace):
    """This thread's sockets, and those of its children, belong there from now on."""
    system(LIBC.setns, namespace, NEWNET)


def ip(*words, give=()):
    subprocess.run(["ip", *words], check=True, pass_fds=give)


def leave():
    """A new namespace without links; gives a descriptor of it, which is all that keeps it."""
    system(LIBC.unshare, NEWNET)
    ip("link", "set", "lo", "up")
    return os.open("/proc/self/ns/net", os.O_RDONLY)


@contextlib.contextmanager
def star(count):
    """Goes to a namespace with the server's address on a bridge; gives those of so many clients."""
    before = os.open("/proc/self/ns/net", os.O_RDONLY)
    kept = [before]
    try:
        here = leave()
        kept.append(here)
        ip("link", "add", "br0", "type", "bridge")
        ip("address", "add", f"{SERVER}/16", "dev", "br0")
        ip("link", "set", "br0", "up")
        clients = []
        for number in range(count):
            clients.append(leave())
            kept.append(clients[-1])
            ip("link", "add", "eth0", "type", "veth", "peer", "name", f"v{number}",
               "netns", f"/proc/self/fd/{here}", give=[here])
            ip("address", "add", f"{source(number)}/16", "dev", "eth0")
            ip("link", "set", "eth0", "up")
            enter(here)
            ip("link", "set", f"v{number}", "master", "br0", "up")
        yield clients
    finally:
        enter(before)
        for namespace in kept:
            os.close(namespace)
