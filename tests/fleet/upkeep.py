"""Health checks, taking one server out, and partial uploads when a client comes to the other."""

import hashlib
import os
import re
import socket
import struct
import subprocess
import sys
import threading

from balanced import EACH, Rules, ranges
from clients import connect
from fleet import NAME, VIRTUAL
from machines import Failure, run, wait_until

PIECE = 1 << 20


def counters(fleet, device):
    """What SIGUSR1 tells."""
    start = fleet.mark(device)
    device.signal("USR1")
    line = fleet.wait_log(device, " counters ", start)
    return {name: int(number) for name, number in re.findall(r"([a-z-]+)=(\d+)", line)}


def probe(device, port, reset):
    """A balancer's look at the port: a connection, closed at once, in order or by RST."""
    with socket.create_connection((device.address, port), 5) as look:
        if reset:
            look.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def probes(fleet):
    """What a balancer's probes leave in the log and the counters, and how `deny` keeps them out of the way."""
    implicit = 'listen-implicit = ["0.0.0.0:990"]\n'
    fleet.certified(lambda number, text: implicit + ('deny = ["192.0.2.1"]\n' if number == 2 else "") + text)
    facts = []
    for device, denied in zip(fleet.devices, (False, True)):
        start, before = fleet.mark(device), counters(fleet, device)
        for port in (21, 990):
            for reset in (False, True):
                probe(device, port, reset)
        name = "turned-away" if denied else "sessions"

        def came(device=device, before=before, name=name):
            return counters(fleet, device)[name] == before[name] + 4
        wait_until(f"four more of {name}", came)
        after = counters(fleet, device)
        assert {key for key in after if after[key] != before[key]} == {name}, (before, after)
        lines = [line.split("]: ")[1] for line in fleet.log(device, start).splitlines() if "counters" not in line]
        facts.append(f"{name}: " + "; ".join(sorted({re.sub(r" session=\d+ peer=[0-9.]+", "", line) for line in lines})))
    # A client is none the worse for it.
    results, _ = fleet.transfers(fleet.devices[1].address, kinds=("curl-epsv",))
    fleet.all_whole(results, 3)
    return " | ".join(facts)


def upload(session, name, size):
    """Begins an upload, and gives its data connection after so many bytes."""
    data = session.transfercmd(f"STOR {name}")
    data.sendall(b"u" * size)
    return data


def drained(fleet):
    """One server is taken out of the turns, then stopped: its transfers end well, new clients go to the other."""
    fleet.certified(lambda number, text: 'drain-timeout = "60s"\n' + ranges(number, text))
    fleet.names([(VIRTUAL, NAME)])
    out, stays = fleet.devices
    with Rules(fleet, fleet.recipes["by-range.nft"]):
        # From a client's machine: this one's own packets do not pass the rules.
        client = fleet.clients[0]
        child = fleet.spawn(sys.executable, "-c", LONG.format(place=os.path.dirname(os.path.abspath(__file__))),
                            VIRTUAL, fleet.authority.certificate, machine=client, stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE)
        # One of the two is on the server that goes.
        assert child.stdout.readline() == b"running\n"
        text = fleet.recipes["by-range.nft"]
        only = re.sub(r"numgen.*", stays.address, text)
        assert only != text
        fleet.tools.run("nft", "-f", "-", input=only.encode())
        start = fleet.mark(out)
        stopping = threading.Thread(target=lambda: out.init("stop", status=None))
        stopping.start()
        fleet.wait_log(out, " stopping", start)
        results, stored = fleet.transfers(NAME)
        fleet.all_whole(results, EACH)
        assert stored[0] == 0 and stored[1] >= EACH, stored
        assert stopping.is_alive()
        child.stdin.write(b"\n")
        child.stdin.flush()
        assert child.stdout.readline() == b"226 226\n"
        stopping.join()
        fleet.wait_log(out, " stopped", start)
    return f"an upload went on for its end, {2 * EACH} transfers by the other server meanwhile"


LONG = """
import sys
sys.path.insert(0, {place!r})
sys.dont_write_bytecode = True
from clients import connect
going = []
for number in (1, 2):
    session = connect(sys.argv[1], sys.argv[2], timeout=60)
    data = session.transfercmd(f"STOR long-{{number}}.bin")
    data.sendall(b"l" * 100000)
    going.append((session, data))
print("running", flush=True)
sys.stdin.readline()
replies = []
for session, data in going:
    data.sendall(b"m" * 100000)
    data.unwrap()
    data.close()
    replies.append(session.voidresp()[:3])
print(*replies, flush=True)
"""


def broken(fleet, device, name, content):
    """An upload that breaks off after all of this."""
    session = connect(device.address, fleet.authority.certificate)
    data = session.transfercmd(f"STOR {name}")
    data.sendall(content)
    wait_until("the bytes", lambda: (connect_size(session, data, device, name) or 0) >= len(content))
    start = fleet.mark(device)
    data.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    data.close()
    session.close()
    fleet.wait_log(device, f"path=/{name} ", start)


def connect_size(session, data, device, name):
    """How much of the partial upload is in its file."""
    sizes = device.sh("find /srv/ftp -name '.ftpsd-*' -printf '%s\\n'").split()
    return max(map(int, sizes), default=0)


def resume(fleet, device, name, path, *words):
    """curl goes on with it at this server."""
    return run("curl", *words, "-sS", "--ssl-reqd", "--cacert", fleet.authority.certificate, "-m", "30", "-u", "operator:changed",
               "-C", "-", "-T", path, f"ftp://{device.address}/{name}", status=None)


def apart(fleet):
    """Each server has a disk of its own: what broke off at one is unknown at the other, and sent anew there."""
    fleet.certified()
    content = os.urandom(5 * PIECE)
    path = os.path.join(fleet.place, "apart.bin")
    with open(path, "wb") as file:
        file.write(content)
    one, two = fleet.devices
    broken(fleet, one, "apart.bin", content[:3 * PIECE])
    session = connect(two.address, fleet.authority.certificate)
    try:
        session.size("apart.bin")
        raise Failure("the other server knows of it")
    except Exception as reply:
        if not str(reply).startswith("550"):
            raise
    start = fleet.mark(two)
    status, said = resume(fleet, two, "apart.bin", path)
    line = fleet.wait_log(two, "store ", start)
    assert status == 0 and f"bytes={len(content)} " in line, (status, said, line)
    assert fleet.uploads(two)["apart.bin"] == hashlib.sha256(content).hexdigest()
    # The rest of it lies at the first until it is `partial-age` old.
    assert one.sh("ls -A /srv/ftp | grep -c '^.ftpsd-'").strip() == "1"
    return "SIZE is 550, all of it is sent again"


def together(fleet):
    """Both servers have one directory of a local file system: what broke off at one goes on at the other."""
    fleet.certified()
    shared = os.path.join(fleet.place, "shared")
    os.mkdir(shared)
    os.chown(shared, 60021, 60021)
    one, two = fleet.devices
    for device in fleet.devices:
        device.sh(f"mount --bind {shared} /srv/ftp")
    content = os.urandom(20 * PIECE)
    path = os.path.join(fleet.place, "together.bin")
    with open(path, "wb") as file:
        file.write(content)
    digest = hashlib.sha256(content).hexdigest()
    facts = []
    try:
        # Broken by the network: everything that came counts.
        broken(fleet, one, "network.bin", content[:3 * PIECE])
        start = fleet.mark(two)
        status, said = resume(fleet, two, "network.bin", path)
        line = fleet.wait_log(two, "store ", start)
        assert status == 0 and fleet.uploads(two)["network.bin"] == digest, (status, said, line)
        sent = int(re.search(r"bytes=(\d+)", line)[1])
        assert sent == len(content) - 3 * PIECE + 1, line
        facts.append(f"{sent} of {len(content)} bytes sent after a break")
        # While the first still writes, nobody else does; a new upload gets a file of its own.
        session = connect(one.address, fleet.authority.certificate)
        data = session.transfercmd("STOR busy.bin")
        data.sendall(content[:13 * PIECE])
        wait_until("the bytes", lambda: connect_size(None, None, one, "") >= 13 * PIECE)
        status, said = resume(fleet, two, "busy.bin", path, "-v")
        assert status != 0 and "450" in said, said
        start = fleet.mark(two)
        run("curl", "-sS", "--ssl-reqd", "--cacert", fleet.authority.certificate, "-m", "30", "-u", "operator:changed",
            "-T", path, f"ftp://{two.address}/busy.bin")
        assert fleet.uploads(two)["busy.bin"] == digest
        data.unwrap()
        data.close()
        session.voidresp()
        after = fleet.uploads(two)["busy.bin"]
        assert after == hashlib.sha256(content[:13 * PIECE]).hexdigest(), (after, digest, fleet.log(one)[-600:], fleet.log(two)[-1500:])
        facts.append("450 while it ran")
        # The first is killed: whole pieces of 8 MiB count.
        session = connect(one.address, fleet.authority.certificate)
        data = session.transfercmd("STOR killed.bin")
        data.sendall(content[:13 * PIECE])
        wait_until("the bytes", lambda: connect_size(None, None, one, "") >= 13 * PIECE)
        one.signal("KILL")
        wait_until("its end", lambda: one.init("status", status=None)[0] == 1)
        start = fleet.mark(two)
        status, said = resume(fleet, two, "killed.bin", path)
        line = fleet.wait_log(two, "store ", start)
        assert status == 0 and fleet.uploads(two)["killed.bin"] == digest, (status, said, line)
        sent = int(re.search(r"bytes=(\d+)", line)[1])
        assert sent == len(content) - 8 * PIECE + 1, line
        data.close()
        session.close()
        facts.append(f"{sent} after a server was killed")
        assert one.sh("ls -A /srv/ftp | grep -c '^.ftpsd-' || :").strip() == "0"
    finally:
        for device in fleet.devices:
            device.sh("umount -l /srv/ftp")
    return "; ".join(facts)
