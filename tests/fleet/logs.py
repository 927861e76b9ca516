"""The log of all devices on the central machine."""

import json
import os
import subprocess

from machines import HUB, NotRun, wait_until
from same import login


def logs(fleet):
    """UDP by the servers themselves: files by host, fields taken apart, foreign bytes in names."""
    fleet.certified()
    name = 'a "quoted\\ name'
    starts = {device: fleet.mark(device) for device in fleet.devices}
    for device in fleet.devices:
        session = login(device, "changed")
        session.prot_p()
        session.mkd(name)
        assert login(device, "wrong").startswith("530")
        session.quit()
    for device, other in zip(fleet.devices, reversed(fleet.devices)):
        line = fleet.wait_log(device, "result=refused", starts[device])
        # Its address, its name, and the process.
        pid = device.read("/run/ftpsd.pid").strip()
        assert f" {device.address} {device.name} ftpsd[{pid}]: login session=" in line, line
        assert f" {other.name} " not in fleet.log(device)

    def objects():
        with open(os.path.join(fleet.logs, "results.json")) as file:
            return [json.loads(line) for line in file.read().splitlines()]
    wanted = [(device.name, "make-directory", '"/a \\"quoted\\\\ name"', "complete") for device in fleet.devices]
    wait_until(f"the fields {wanted}", lambda: set(wanted) <= {
        (one["host"], one["event"], one["path"], one["result"]) for one in objects()})
    assert {"operator"} == {one["user"] for one in objects() if one["event"] == "login"}
    return None


def forwarded(fleet):
    """By rsyslogd on each device, over TCP: what was said while the central one was away comes later."""
    fleet.certified(change=lambda number, text: text.replace("udp://192.0.2.1:514", "syslog:/run/log"))
    for device in fleet.devices:
        device.init("stop")
        device.write("/run/rsyslog.conf", fleet.recipes["device-rsyslog.conf"])
        fleet.spawn(fleet.tools.path("rsyslogd"), "-n", "-f", "/run/rsyslog.conf", "-i", "/run/rsyslogd.pid",
                    machine=device, stderr=subprocess.DEVNULL)
        wait_until("the device's rsyslogd", lambda device=device: "log" in device.sh("ls /run").split())
        start = fleet.mark(device)
        device.init("start")
        fleet.wait_log(device, "listening address=", start)
    fleet.collector.terminate()
    fleet.collector.wait()
    starts = [fleet.mark(device) for device in fleet.devices]
    for device in fleet.devices:
        for _ in range(20):
            login(device, "changed").quit()
    fleet.collect()
    for device, start in zip(fleet.devices, starts):
        wait_until("the lines of the pause", lambda device=device, start=start: fleet.log(device, start).count(
            "closed session=") >= 20)
    here = [fleet.log(device, start).count("result=accepted") for device, start in zip(fleet.devices, starts)]
    return f"{here[0]} and {here[1]} of 20 logins of the pause"


def busybox(fleet):
    """By BusyBox's syslogd -R on each device: it sends no host name."""
    program = fleet.tools.path("busybox")
    if not program:
        raise NotRun("no busybox")
    fleet.certified(change=lambda number, text: text.replace("udp://192.0.2.1:514", "syslog"))
    facts = set()
    for device in fleet.devices:
        device.init("stop")
        device.sh("mount -t tmpfs tmpfs /mnt\n"
                  "for one in null zero random urandom; do : >/mnt/$one; mount --bind /dev/$one /mnt/$one; done\n"
                  "mount --move /mnt /dev")
        try:
            child = fleet.spawn(program, "syslogd", "-n", "-R", f"{HUB}:514", machine=device)
            wait_until("/dev/log", lambda device=device: "log" in device.sh("ls /dev").split())
            device.init("start")
            pid = device.read("/run/ftpsd.pid").strip()

            def came(device=device, pid=pid):
                for name in os.listdir(fleet.logs):
                    with open(os.path.join(fleet.logs, name)) as file:
                        for line in file.read().splitlines():
                            if f" {device.address} " in line and f"ftpsd[{pid}]: listening" in line:
                                return f"{name}: {line}"
                return None
            line = wait_until("its lines at the central one", came)
            facts.add(line.split(" ", 1)[1].split("ftpsd[")[0].replace(device.address, "ADDRESS").replace(device.name, "NAME"))
            device.init("stop")
            child.kill()
            child.wait()
        finally:
            device.sh("umount -l /dev")
    return str(facts)
