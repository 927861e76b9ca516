"""One configuration and one users file for all devices; images that were cloned."""

import ftplib

from clients import connect
from fleet import fingerprint
from machines import Failure, run


def insecure(device):
    """A session with a device that has made its certificate itself; the central machine is the client."""
    client = ftplib.FTP_TLS(timeout=15)
    client.connect(device.address)
    return client


def login(device, password):
    """A session that is logged in, or the reply that refused it."""
    client = insecure(device)
    try:
        client.login("operator", password)
    except ftplib.error_perm as reply:
        client.close()
        return str(reply)
    return client


def same(fleet):
    """The same release on both; a changed password while sessions go on; a bad file changes nothing."""
    first = {device: fleet.take(device, password="first") for device in fleet.devices}
    for device in fleet.devices:
        device.init("start")
    sessions = {device: login(device, "first") for device in fleet.devices}
    texts = {device.read("/etc/ftpsd/now/ftpsd.toml") + device.read("/etc/ftpsd/now/users") for device in fleet.devices}
    assert len(texts) == 1, texts
    for device in fleet.devices:
        fleet.take(device)
        assert login(device, "first").startswith("530"), "the old password"
        login(device, "changed").quit()
        assert sessions[device].pwd() == "/", "a session that ran"
    device = fleet.devices[0]
    for change in (lambda text: text + "lisen = []\n",                     # a key that is none
                   lambda text: text.replace('"users"', '"missing"'),      # a users file that is not there
                   lambda text: text + '[[user]]\nname = "b"\nroot = "/"\n'):  # a user without a line in it
        before = device.sh("readlink /etc/ftpsd/now")
        start = fleet.mark(device)
        name = fleet.release(device, change=change)
        said = run(*device.words("ftpsd-take", name), status=None)
        assert said[0] == 1 and "/etc/ftpsd/" in said[1], said
        assert device.sh("readlink /etc/ftpsd/now") == before
        login(device, "changed").quit()
        assert "reload" not in fleet.log(device, start)
    # Somebody put a bad file in force without looking: the server keeps what it has, and says so.
    start = fleet.mark(device)
    device.sh(f"ln -sfn {name} /etc/ftpsd/now")
    device.signal("HUP")
    said = fleet.wait_log(device, "reload-failed", start)
    assert "/etc/ftpsd/now/" in said, said
    login(device, "changed").quit()
    # And back to the first release.
    for device in fleet.devices:
        start = fleet.mark(device)
        device.sh(f"ftpsd-take {first[device]}")
        fleet.wait_log(device, " reloaded", start)
        assert login(device, "changed").startswith("530")
        sessions[device].quit()
    return None


def clones(fleet):
    """Images with and without what a device has made."""
    seen = []
    for device in fleet.devices:
        device.sh("rm -rf /var/lib/ftpsd")
        fleet.take(device)
        device.init("start")
        seen.append(fingerprint(fleet.clients[0], device.address, fleet.authority.certificate))
    assert len(set(seen)) == 2, seen
    one, two = fleet.devices
    two.init("stop")
    state = one.sh("base64 /var/lib/ftpsd/certificate.pem")
    two.sh("base64 -d >/var/lib/ftpsd/certificate.pem", input=state.encode())
    two.init("start")
    if fingerprint(fleet.clients[0], two.address, fleet.authority.certificate) != seen[0]:
        raise Failure("a cloned state-dir is not the same server")
    # An image whose last-seen is of the workshop's wrong clock.
    two.init("stop")
    start = fleet.mark(two)
    two.sh("echo 1950000000 >/var/lib/ftpsd/last-seen")
    two.init("start")
    return fleet.wait_log(two, "clock-behind", start).split("]: ")[-1]
