"""Certificates by a private authority and by ACME, exchanged under a server that runs."""

import concurrent.futures
import json
import os
import urllib.request

from balanced import reachable
from clients import connect
from fleet import NAME, fingerprint
from machines import HUB, NotRun, run, wait_until


def upright(fleet, device):
    """A session with a name that the certificate has to have."""
    return connect(device.address, fleet.authority.certificate)


def authority(fleet):
    """A private authority renews both certificates; a session and an upload go on; a pair that does not match."""
    fleet.certified()
    client, certificate = fleet.clients[0], fleet.authority.certificate
    for number, device in enumerate(fleet.devices, 1):
        before = fingerprint(client, device.address, certificate)
        session = upright(fleet, device)
        uploading, data = upright(fleet, device), None
        data = uploading.transfercmd("STOR long.bin")
        data.sendall(b"x" * 100_000)
        start = fleet.mark(device)
        fleet.certify(device, f"press-{number}.fleet.example", NAME, device.address)
        fleet.wait_log(device, " reloaded", start)
        after = fingerprint(client, device.address, certificate)
        assert before != after and after in fleet.wait_log(device, "certificate ", start), (before, after)
        upright(fleet, device).quit()
        assert session.pwd() == "/"
        data.sendall(b"y" * 100_000)
        data.unwrap()
        data.close()
        assert uploading.voidresp().startswith("226")
        assert session.size("long.bin") == 200_000
        # A hook that copies file by file, and reloads too early.
        chain, key = fleet.authority.issue(device.address)
        start = fleet.mark(device)
        with open(chain, "rb") as file:
            content = file.read()
        kept = device.sh("cat /etc/ftpsd/tls/chain.pem")
        device.sh("cat >/etc/ftpsd/tls/chain.pem", input=content)
        assert device.init("reload", status=None)[0] == 6
        device.signal("HUP")
        said = fleet.wait_log(device, "reload-failed", start)
        assert fingerprint(client, device.address, certificate) == after
        upright(fleet, device).quit()
        device.sh("cat >/etc/ftpsd/tls/chain.pem", input=kept.encode())
        # The hook, given such a pair, changes nothing.
        held = device.sh("readlink /etc/ftpsd/tls; ls /etc/ftpsd")
        outcome, words = fleet.install(device, chain, fleet.authority.issue(device.address)[1], status=None)
        assert outcome == 1 and device.sh("readlink /etc/ftpsd/tls; ls /etc/ftpsd") == held, words
        assert fingerprint(client, device.address, certificate) == after
        # Who enrols by EST (RFC 7030) or SCEP gets PKCS #7, of which openssl makes PEM, with text around it.
        chain, key = fleet.authority.issue(device.address)
        run("openssl", "crl2pkcs7", "-nocrl", "-certfile", chain, "-outform", "DER", "-out", f"{chain}.p7")
        run("openssl", "pkcs7", "-inform", "DER", "-in", f"{chain}.p7", "-print_certs", "-out", f"{chain}.printed")
        start = fleet.mark(device)
        # As certbot has its files, and says where.
        for source, name in ((f"{chain}.printed", "fullchain.pem"), (key, "privkey.pem")):
            with open(source, "rb") as file:
                device.write(f"/run/lineage/{name}", file.read(), 0o600)
        device.sh("RENEWED_LINEAGE=/run/lineage RENEWED_DOMAINS=press.fleet.example ftpsd-certificate")
        fleet.wait_log(device, " reloaded", start)
        assert fingerprint(client, device.address, certificate) != after
        # One that is taken with a warning: nobody else has issued it.
        chain, key = fleet.authority.alone()
        start = fleet.mark(device)
        said_of_it = fleet.install(device, chain, key)
        fleet.wait_log(device, "certificate-doubtful", start)
        fleet.wait_log(device, " reloaded", start)
        assert "warning" in said_of_it, said_of_it
        session.quit()
        uploading.quit()
    return said.split("]: ")[-1]


def acme(fleet):
    """Certificates by ACME: lego on each device, Pebble in the place of Let's Encrypt, HTTP-01 and DNS-01."""
    pebble, lego, names = (fleet.tools.path(name) for name in ("pebble", "lego", "pebble-challtestsrv"))
    if not (pebble and lego and names):
        raise NotRun("no pebble or no lego")
    fleet.certified()
    chain, key = fleet.authority.issue(HUB)
    config = os.path.join(fleet.place, "pebble.json")
    with open(config, "w") as file:
        json.dump({"pebble": {"listenAddress": f"{HUB}:14000", "managementListenAddress": f"{HUB}:15000",
                              "certificate": chain, "privateKey": key, "httpPort": 80, "tlsPort": 443}}, file)
    with open(os.path.join(fleet.place, "pebble.log"), "wb") as log:
        fleet.spawn(names, "-dns01", f"{HUB}:8053", "-http01", "", "-https01", "", "-tlsalpn01", "",
                    "-management", f"{HUB}:8055", "-defaultIPv4", HUB, "-defaultIPv6", "", stdout=log, stderr=log)
        fleet.spawn(pebble, "-config", config, "-dnsserver", f"{HUB}:8053", stdout=log, stderr=log,
                    env=dict(os.environ, PEBBLE_VA_NOSLEEP="1", PEBBLE_WFE_NONCEREJECT="0"))
    wait_until("pebble listens", lambda: reachable(HUB, 14000) and reachable(HUB, 8055))
    # It waits more than it works.
    with concurrent.futures.ThreadPoolExecutor() as pool:
        list(pool.map(lambda one: enrolled(fleet, lego, *one), enumerate(zip(fleet.devices, ("http", "dns")), 1)))
    return "by HTTP-01 and by DNS-01, run and renew"


def enrolled(fleet, lego, number, how):
    """One device gets a certificate by lego, and renews it."""
    device, way = how
    name = f"press-{number}.fleet.example"
    post("add-a", {"host": name, "addresses": [device.address]})
    with open(fleet.authority.certificate) as file:
        device.write("/run/authority.pem", file.read())
    # What sets the record where the owner of the zone would: the test's name server.
    device.write("/run/set-record", '#!/bin/sh\nset -eu\ncase $1 in present) word=set-txt ;; *) word=clear-txt ;; esac\n'
                 f'curl -sSf -d "{{\\"host\\":\\"$2\\",\\"value\\":\\"$3\\"}}" http://{HUB}:8055/$word\n', 0o755)
    challenge = "--http" if way == "http" else f"--dns exec --dns.disable-cp --dns.resolvers {HUB}:8053"
    seen = [fingerprint(fleet.clients[0], device.address, fleet.authority.certificate)]
    session = upright(fleet, device)
    for command in ("run --run-hook ftpsd-certificate",
                    "renew --days 100000 --no-random-sleep --renew-hook ftpsd-certificate"):
        start = fleet.mark(device)
        said = device.sh(
            "export LEGO_CA_CERTIFICATES=/run/authority.pem EXEC_PATH=/run/set-record EXEC_POLLING_INTERVAL=1\n"
            f"export PATH=$PATH:/usr/local/sbin\n{lego} --server https://{HUB}:14000/dir --accept-tos "
            f"--email ops@fleet.example --path /run/lego {challenge} --domains {name} {command}")
        fleet.wait_log(device, " reloaded", start)
        line = fleet.wait_log(device, "certificate ", start)
        now = fingerprint(fleet.clients[0], device.address, fleet.authority.certificate)
        assert now not in seen and now in line and name in line, (seen, now, line, said)
        seen.append(now)
    assert session.pwd() == "/"
    session.quit()
    assert device.sh("stat -c '%a %U %G' /etc/ftpsd/tls/key.pem").strip() == "640 root ftp"


def post(word, content):
    """Tells the test's name server something."""
    request = urllib.request.Request(f"http://{HUB}:8055/{word}", json.dumps(content).encode())
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10).close()
