"""Machines of a fleet: each has network, mounts and host name of its own, /etc, /run and /var of its own too."""

import os
import shutil
import subprocess
import time

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# How long anything that should happen may take.
PATIENCE = 20
# What the central machine is reached by, from either side.
HUB, OUTSIDE = "192.0.2.1", "203.0.113.1"
# The fleet's tool would have made the account; its number is the same everywhere.
ACCOUNT = 60021

# Of /etc a device has what programs need, and nothing of the machine that the test runs on.
DISK = """
mount --make-rprivate /
mount -t tmpfs tmpfs /mnt
for file in ld.so.cache ld.so.conf ld.so.conf.d ssl nsswitch.conf alternatives services protocols; do
    [ ! -e /etc/$file ] || cp -a /etc/$file /mnt/
done
printf 'root:x:0:0:root:/root:/bin/sh\\nftp:x:{account}:{account}::/srv/ftp:/bin/false\\n' >/mnt/passwd
printf 'root:x:0:\\nftp:x:{account}:\\n' >/mnt/group
echo '127.0.0.1 localhost' >/mnt/hosts
mkdir -p /mnt/init.d /mnt/default
mount --move /mnt /etc
for place in /run /srv /var/lib /usr/local/sbin; do mount -t tmpfs -o mode=755 tmpfs $place; done
hostname {name}
ip link set lo up
echo ready
exec sleep infinity
"""


class Failure(Exception):
    """What was tried did not work."""


class NotRun(Exception):
    """Something that it takes is not to be had here."""


def wait_until(what, came):
    """The result of `came`, as soon as it is one."""
    deadline = time.monotonic() + PATIENCE
    while True:
        result = came()
        if result:
            return result
        if time.monotonic() > deadline:
            raise Failure(f"waited in vain: {what}")
        time.sleep(0.02)


def run(*words, status=0, environment=None, **more):
    """Runs a program on the central machine; gives what it said."""
    outcome = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120,
                             stdin=None if "input" in more else subprocess.DEVNULL,
                             env=environment, check=False, **more)
    said = outcome.stdout.decode(errors="replace")
    if status is not None and outcome.returncode != status:
        raise Failure(f"{' '.join(words)[:400]}: status {outcome.returncode}\n{said}")
    return said if status is not None else (outcome.returncode, said)


class Machine:
    """A machine that is reached through the central one."""

    def __init__(self, name, network, number):
        self.name = name
        self.address = f"{network}.{number}"
        self.address6 = f"2001:db8:{'1' if network == '192.0.2' else '2'}::{number}"
        script = DISK.format(name=name, account=ACCOUNT)
        self.holder = subprocess.Popen(["unshare", "--net", "--mount", "--uts", "sh", "-ec", script],
                                       stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        if self.holder.stdout.readline() != b"ready\n":
            raise Failure(f"no machine {name}")
        bridge = "lan" if network == "192.0.2" else "out"
        link = f"v-{name}"[:15]
        run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", str(self.holder.pid))
        run("ip", "link", "set", link, "master", bridge, "up")
        gateway6 = f"2001:db8:{'1' if bridge == 'lan' else '2'}::1"
        self.sh(f"ip address add {self.address}/24 dev eth0; ip -6 address add {self.address6}/64 dev eth0 nodad\n"
                f"ip link set eth0 up; ip route add default via {network}.1; ip -6 route add default via {gateway6}")

    def words(self, *words):
        """The words that run a program there."""
        return ["nsenter", "-t", str(self.holder.pid), "-n", "-m", "-u", "--", *words]

    def sh(self, script, **more):
        """Runs a script there."""
        return run(*self.words("sh", "-ec", script), **more)

    def write(self, path, text, mode=0o644, owner="root:root"):
        """A file there, with its directory."""
        self.sh(f"mkdir -p {os.path.dirname(path)}; cat >{path}; chmod {mode:o} {path}; chown {owner} {path}",
                input=text.encode() if isinstance(text, str) else text)

    def read(self, path):
        """A file there."""
        return self.sh(f"cat {path}")


class Device(Machine):
    """A machine with ftpsd, the script that starts it, and nothing else of the fleet's."""

    def __init__(self, name, number, program):
        super().__init__(name, "192.0.2", number)
        self.sh(f"cp {program} /usr/local/sbin/ftpsd; cp {REPOSITORY}/init/S50ftpsd /etc/init.d/ftpsd\n"
                "install -d -o ftp -g ftp /srv/ftp; install -d -m 750 -o root -g ftp /etc/ftpsd")
        self.write("/etc/default/ftpsd", "DAEMON=/usr/local/sbin/ftpsd\nCONFIG=/etc/ftpsd/now/ftpsd.toml\n")

    def signal(self, name):
        """A signal to the server."""
        self.sh(f"kill -{name} $(cat /run/ftpsd.pid)")

    def init(self, word, status=0):
        """The init script."""
        return self.sh(f"/etc/init.d/ftpsd {word}", status=status)


def network():
    """The links of the central machine, between the servers' side and the clients'."""
    for command in (
            "link set lo up", "link add lan type bridge", "link add out type bridge",
            f"address add {HUB}/24 dev lan", f"address add {OUTSIDE}/24 dev out",
            "-6 address add 2001:db8:1::1/64 dev lan nodad", "-6 address add 2001:db8:2::1/64 dev out nodad",
            "link set lan up", "link set out up"):
        run("ip", *command.split())
    for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        with open(f"/proc/sys/net/{name}", "w") as file:
            file.write("1")


class Recipes:
    """The files of init/fleet/, which FLEETS.md has names of: what is tried is what stands there."""

    def __init__(self):
        self.top = os.path.join(REPOSITORY, "init", "fleet")
        self.names = set(os.listdir(self.top))
        self.used = set()
        with open(os.path.join(REPOSITORY, "FLEETS.md")) as file:
            page = file.read()
        absent = [name for name in self.names if f"`init/fleet/{name}`" not in page]
        if absent:
            raise Failure(f"FLEETS.md does not say what these are for: {absent}")

    def __getitem__(self, name):
        self.used.add(name)
        with open(os.path.join(self.top, name)) as file:
            return file.read()

    def unused(self):
        """Those that nothing has tried."""
        return self.names - self.used


class Tools:
    """Programs of Debian that are unpacked rather than installed."""

    def __init__(self, top):
        self.top = top
        self.environment = dict(os.environ, LD_LIBRARY_PATH=":".join(
            os.path.join(top, base, name) for base in ("usr/lib", "lib") if os.path.isdir(os.path.join(top, base))
            for name in os.listdir(os.path.join(top, base))
        ) if os.path.isdir(os.path.join(top, "usr/lib")) else "")
        # iptables(8) loads its matches and targets.
        extensions = [os.path.join(place, "xtables") for place in self.environment["LD_LIBRARY_PATH"].split(":")]
        self.environment["XTABLES_LIBDIR"] = ":".join(place for place in extensions if os.path.isdir(place))

    def path(self, name):
        """Where the program is; none if it is not to be had."""
        for place in ("usr/sbin", "usr/bin", "sbin"):
            path = os.path.join(self.top, place, name)
            if os.access(path, os.X_OK):
                return path
        return shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")

    def run(self, name, *words, **more):
        """Runs it."""
        return run(self.path(name), *words, environment=self.environment, **more)
