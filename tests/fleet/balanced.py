"""Several servers behind one name or one virtual address."""

import os
import re
import socket
import subprocess
import sys

from fleet import NAME, VIRTUAL
from machines import HUB, Failure, NotRun, run, wait_until

# Kinds of client in clients.py, each on three machines.
EACH = 3 * 7


def ranges(number, text):
    """Ports of its own for each server, and the virtual address in PASV."""
    ports = ("50000-50499", "50500-50999")[number - 1]
    return f'passive-ports = "{ports}"\npassive-address = "{VIRTUAL}"\n' + text


def announced(number, text):
    """The virtual address in PASV, and the ports that all have."""
    return f'passive-address = "{VIRTUAL}"\n' + text


class Rules:
    """Rules of the central machine, for as long as they are wanted."""

    def __init__(self, fleet, text=None):
        self.fleet, self.text = fleet, text
        if not fleet.tools.path("nft"):
            raise NotRun("no nft")

    def __enter__(self):
        if self.text:
            self.fleet.tools.run("nft", "-f", "-", input=self.text.encode())
        return self

    def __exit__(self, *_):
        self.fleet.tools.run("nft", "flush", "ruleset")


def passed(fleet, host, rounds=1):
    """So many rounds of all kinds of client, all whole; gives how many uploads each server has."""
    counts = [0, 0]
    for _ in range(rounds):
        results, stored = fleet.transfers(host)
        fleet.all_whole(results, EACH)
        counts = [one + other for one, other in zip(counts, stored)]
    if min(counts) == 0:
        raise Failure(f"all on one server: {counts}")
    return f"{2 * EACH * rounds} transfers whole, uploads {counts[0]} and {counts[1]}"


def dns(fleet):
    """One name with two addresses of each family: no balancer, one configuration; the second address is tried."""
    fleet.certified()
    one, two = fleet.devices
    counts = [0, 0]
    for client, order in zip(fleet.clients, ((one, two), (two, one), (one, two))):
        fleet.names([(device.address, NAME) for device in order], [client])
        results, stored = fleet.transfers(NAME, clients=[client])
        fleet.all_whole(results, 7)
        counts = [mine + more for mine, more in zip(counts, stored)]
    assert sorted(counts) == [7, 14], counts
    # Over IPv6, where there is EPSV alone.
    fleet.names([(device.address6, NAME) for device in fleet.devices])
    results, _ = fleet.transfers(NAME, kinds=("curl-epsv", "python-pasv", "lftp"))
    fleet.all_whole(results, 9)
    # The first of the two is gone: curl, Python and lftp go on to the second.
    one.init("stop")
    fleet.names([(device.address, NAME) for device in fleet.devices])
    results, stored = fleet.transfers(NAME)
    fleet.all_whole(results, EACH)
    assert stored == [0, EACH], stored
    return f"{2 * EACH} transfers whole, uploads {counts[0]} and {counts[1]}; 18 over IPv6; {2 * EACH} with one server gone"


def trust(fleet):
    """Which clients go to the address that PASV announces: here one that nobody has."""
    fleet.certified(lambda number, text: 'passive-address = "192.0.2.254"\n' + text)
    run("ip", "route", "add", "unreachable", "192.0.2.254")
    fleet.names([(fleet.devices[0].address, NAME)])
    results, _ = fleet.transfers(NAME, clients=fleet.clients[:1])
    run("ip", "route", "del", "unreachable", "192.0.2.254")
    trusting = {result["kind"] for result in results if not result["whole"]}
    assert trusting == {"curl-pasv-trusting", "python-pasv-trusting", "lftp"}, trusting
    return "by default lftp alone"


def by_range(fleet):
    """NAT, control connections in turn, data connections by range of ports."""
    fleet.certified(ranges)
    fleet.names([(VIRTUAL, NAME)])
    with Rules(fleet, fleet.recipes["by-range.nft"]):
        facts = passed(fleet, NAME)
        # One port for each, which its sessions share.
        fleet.certified(lambda number, text: re.sub(r"-50[49]99", "", ranges(number, text)))
        return f"{facts}; with one port each {passed(fleet, NAME)}"


def by_client(fleet):
    """NAT, a client always to the same server: one configuration."""
    fleet.certified(announced)
    fleet.names([(VIRTUAL, NAME)])
    with Rules(fleet, fleet.recipes["by-client.nft"]):
        facts = passed(fleet, NAME)
        # Reading the rules anew leaves an open session its server.
        sessions = [fleet.spawn(sys.executable, "-c", TWICE.format(place=os.path.dirname(os.path.abspath(__file__))),
                                VIRTUAL, fleet.authority.certificate, client.name, machine=client,
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE) for client in fleet.clients]
        for turn in range(4):
            said = [session.stdout.readline() for session in sessions]
            assert said == [b"226\n"] * 3, (turn, said)
            fleet.tools.run("nft", "-f", "-", input=fleet.recipes["by-client.nft"].encode())
            for session in sessions:
                session.stdin.write(b"\n")
                session.stdin.flush()
    return facts


# An upload for each line of its input, and a line for each reply, in one session.
TWICE = """
import io
import sys
sys.path.insert(0, {place!r})
sys.dont_write_bytecode = True
from clients import connect
session = connect(sys.argv[1], sys.argv[2])
for number in range(4):
    print(session.storbinary(f"STOR {{sys.argv[3]}}-{{number}}", io.BytesIO(b"t" * 1000))[:3], flush=True)
    sys.stdin.readline()
"""


def direct(fleet):
    """Direct routing: the servers have the virtual address themselves, and see it."""
    fleet.certified(lambda number, text: ranges(number, text).replace(f'passive-address = "{VIRTUAL}"\n', ""))
    fleet.names([(VIRTUAL, NAME)])
    for device in fleet.devices:
        device.sh(f"ip address add {VIRTUAL}/32 dev lo")
    try:
        with Rules(fleet):
            run("sh", "-ec", fleet.recipes["direct"], environment=dict(
                fleet.tools.environment, PATH=os.path.dirname(fleet.tools.path("nft")) + ":" + os.environ["PATH"]))
            facts = passed(fleet, NAME)
    finally:
        for device in fleet.devices:
            device.sh(f"ip address del {VIRTUAL}/32 dev lo")
        for mark in (1, 2):
            run("ip", "rule", "del", "fwmark", str(mark), status=None)
            run("ip", "route", "flush", "table", f"10{mark}", status=None)
    return facts


def wrong(fleet):
    """What goes wrong without the ranges: a session's data connections reach the other server."""
    fleet.certified(announced)
    fleet.names([(VIRTUAL, NAME)])
    text = "\n".join(line for line in fleet.recipes["by-range.nft"].split("\n") if "50500" not in line)
    text = text.replace("50000-50499", "50000-50999")
    with Rules(fleet, text):
        results, _ = fleet.transfers(NAME, kinds=("curl-epsv", "curl-pasv"))
    whole = sum(result["whole"] for result in results)
    assert whole < len(results), results
    return f"{len(results) - whole} of {len(results)} clients failed"


def reachable(address, port):
    """Whether somebody there takes connections."""
    try:
        socket.create_connection((address, port), 1).close()
        return True
    except OSError:
        return False


def crowd(fleet, client):
    """Six sessions at once from one client, that wait."""
    words = [sys.executable, "-c", "import socket, sys, time\n"
             f"held = [socket.create_connection(('{NAME}', 21), 10) for _ in range(6)]\ntime.sleep(60)"]
    return [fleet.spawn(*words, machine=client)]


def proxy(fleet):
    """HAProxy: every client has the balancer's address."""
    program = fleet.tools.path("haproxy")
    if not program:
        raise NotRun("no haproxy")
    fleet.certified(ranges)
    fleet.names([(VIRTUAL, NAME)])
    config = os.path.join(fleet.place, "haproxy.cfg")
    with open(config, "w") as file:
        file.write(fleet.recipes["haproxy.cfg"])
    run("ip", "address", "add", f"{VIRTUAL}/32", "dev", "out")
    starts = [fleet.mark(device) for device in fleet.devices]
    child = fleet.spawn(program, "-db", "-f", config, env=fleet.tools.environment)
    try:
        wait_until("haproxy", lambda: reachable(VIRTUAL, 21))
        facts = passed(fleet, NAME)
        logins = [line for device, start in zip(fleet.devices, starts)
                  for line in fleet.log(device, start).splitlines() if " login " in line]
        assert logins and all(f"peer={HUB}" in line for line in logins), logins[:3]
        # Three clients with six sessions each: eight may come from one address to one server.
        held = [session for client in fleet.clients for session in crowd(fleet, client)]
        turned = [fleet.wait_log(device, f"peer={HUB} reason=sessions-per-address", start)
                  for device, start in zip(fleet.devices, starts)]
        for session in held:
            session.kill()
            session.wait()
        facts += f"; {turned[0].split(']: ')[-1]}"
    finally:
        child.kill()
        child.wait()
        run("ip", "address", "del", f"{VIRTUAL}/32", "dev", "out")
    return facts


def ipvs(fleet):
    """IPVS, in turn with the ranges, and by client."""
    if not (fleet.tools.path("ipvsadm") and fleet.tools.path("iptables")):
        raise NotRun("no ipvsadm or no iptables")
    if not os.path.exists("/proc/net/ip_vs"):
        raise NotRun("no IPVS in this kernel; tests/fleet/in_uml takes one that has it")
    facts = []
    run("ip", "address", "add", f"{VIRTUAL}/32", "dev", "lo")
    try:
        for word, change in (("turns", ranges), ("clients", announced)):
            fleet.certified(change)
            fleet.names([(VIRTUAL, NAME)])
            run("sh", "-ec", fleet.recipes["ipvs"], "ipvs", word, environment=dict(
                fleet.tools.environment,
                PATH=":".join([*(os.path.dirname(fleet.tools.path(name)) for name in ("ipvsadm", "iptables")),
                               os.environ["PATH"]])))
            facts.append(f"{word}: {passed(fleet, NAME)}")
            fleet.tools.run("ipvsadm", "-C")
            fleet.tools.run("iptables", "-t", "mangle", "-F")
    finally:
        run("ip", "address", "del", f"{VIRTUAL}/32", "dev", "lo")
    return "; ".join(facts)
