"""One emulated board: the emulator, its console, and commands inside it."""

import base64
import ctypes
import random
import signal
import socket
import subprocess
import time
from pathlib import Path

# All limits are for a machine that has time, and are multiplied by this for one that has not.
PATIENCE = 6
CPU = "cortex-a15"
MEMORY = 128
# What takes the emulated processor half of the boot and has nothing to do with the server: the tests that
# the kernel makes of its own ciphers, and the keys that modules are signed with.
WITHOUT = "cryptomgr.notests initcall_blacklist=load_system_certificate_list,crypto_kdf108_init"
EXPLICIT, IMPLICIT = 21, 990
PASSIVE = 8


class BoardFailed(Exception):
    """The board did not do what it should, or not in time."""


class PortTaken(BoardFailed):
    """Another program was faster with one of the ports."""


class Deadline:
    """A moment by which something has to be done."""

    def __init__(self, seconds, what):
        self.what = what
        self.end = time.monotonic() + seconds * PATIENCE

    def left(self):
        """Seconds left; when there are none, the failure."""
        left = self.end - time.monotonic()
        if left <= 0:
            raise BoardFailed("not in time: " + self.what)
        return left


def die_with_parent():
    """In the child: should this program be killed, the emulator is too."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def free_ports(count):
    """Loopback ports that nobody has now, in one piece."""
    for _ in range(100):
        first = random.SystemRandom().randrange(12000, 32000)
        sockets = []
        try:
            for port in range(first, first + count):
                sockets.append(socket.socket())
                sockets[-1].bind(("127.0.0.1", port))
            return list(range(first, first + count))
        except OSError:
            continue
        finally:
            for each in sockets:
                each.close()
    raise BoardFailed("no free ports on the loopback interface")


class Board:
    """A board that runs from `start` to `stop` or `cut`."""

    def __init__(self, tools, initramfs, directory, name):
        self.tools = tools
        self.initramfs = initramfs
        self.directory = Path(directory)
        self.console = self.directory / (name + ".console")
        self.process = None
        self.channel = None
        self.buffer = b""
        self.number = 0
        self.started = 0.0
        self.explicit, self.implicit, self.passive = 0, 0, []
        self.choose_ports()

    def choose_ports(self):
        """Other ones, for the next start."""
        ports = free_ports(PASSIVE + 2)
        self.explicit, self.implicit, self.passive = ports[0], ports[1], ports[2:]

    def start(self, overlay, drives):
        """Power on. `overlay` is an archive with the files of this boot; `drives` is a list of
        options of the emulator for each."""
        ramdisk = self.directory / "initramfs"
        ramdisk.write_bytes(self.initramfs + overlay)
        path = self.directory / "control.socket"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        listener.listen(1)
        listener.settimeout(1)
        forwards = [(self.explicit, EXPLICIT), (self.implicit, IMPLICIT)]
        forwards += [(port, port) for port in self.passive]
        network = "user,id=net" + "".join(
            f",hostfwd=tcp:127.0.0.1:{host}-:{guest}" for host, guest in forwards)
        command = [
            *self.tools.emulator, "-M", "virt", "-cpu", CPU, "-m", str(MEMORY), "-smp", "1",
            "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-kernel", self.tools.kernel, "-initrd", ramdisk,
            "-append", "console=ttyAMA0 panic=-1 loglevel=4 sysrq_always_enabled=1 " + WITHOUT,
            "-rtc", "base=1970-01-01T00:00:00", "-serial", f"file:{self.console}",
            "-netdev", network, "-device", "virtio-net-device,netdev=net",
            "-chardev", f"socket,id=control,path={path}",
            "-device", "virtio-serial-device", "-device", "virtserialport,chardev=control,nr=1",
        ]
        for drive in drives:
            command += drive
        self.started = time.monotonic()
        try:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                env=self.tools.environment, preexec_fn=die_with_parent)
            deadline = Deadline(30, "the start of the emulator")
            while self.channel is None:
                deadline.left()
                if self.process.poll() is not None:
                    raise self.ended()
                try:
                    self.channel, _ = listener.accept()
                except TimeoutError:
                    pass
        finally:
            listener.close()
            path.unlink()
        self.buffer = b""

    def ended(self):
        """Why the emulator is no more."""
        words = self.process.stdout.read().decode(errors="replace")
        return (PortTaken if "host forwarding" in words else BoardFailed)("the emulator has ended: " + words)

    def run(self, script, limit=60, status=0):
        """What a shell script prints inside. Another exit status than `status` is a failure, unless
        that is None; then the answer is the status with the text."""
        self.number += 1
        packed = base64.b64encode(script.encode()).decode()
        deadline = Deadline(limit + 20, "in the board: " + script)
        self.channel.settimeout(deadline.left())
        # The board ends the script before the wait for it ends.
        self.channel.sendall(f"{self.number} {limit * PATIENCE} {packed}\n".encode())
        while True:
            line, newline, rest = self.buffer.partition(b"\n")
            if newline:
                self.buffer = rest
                fields = line.decode().split(" ")
                # An answer that came too late for an earlier wait is skipped.
                if fields[0] == str(self.number):
                    break
                continue
            self.channel.settimeout(deadline.left())
            try:
                piece = self.channel.recv(65536)
            except TimeoutError:
                continue
            if not piece:
                raise BoardFailed("the emulator has ended")
            self.buffer += piece
        text = base64.b64decode(fields[2]).decode(errors="replace").strip()
        if status is None:
            return int(fields[1]), text
        if int(fields[1]) != status:
            raise BoardFailed(f"{script!r}: status {fields[1]}, not {status}: {text}")
        return text

    def greeting(self, limit=120):
        """Wait for the first 220 on the control port; tells the seconds since power on."""
        deadline = Deadline(limit, "the greeting 220")
        while True:
            left = deadline.left()
            if self.process.poll() is not None:
                raise self.ended()
            # The emulator takes the connection before the board does; then it is closed again.
            try:
                with socket.create_connection(("127.0.0.1", self.explicit), left) as connection:
                    connection.settimeout(min(left, 5))
                    if connection.recv(4).startswith(b"220"):
                        return time.monotonic() - self.started
            except OSError:
                pass
            time.sleep(0.05)

    def until(self, script, limit=30, what=None):
        """Ask inside until the script succeeds; tells what it printed."""
        deadline = Deadline(limit, what or script)
        while True:
            status, text = self.run(script, status=None)
            if status == 0:
                return text
            deadline.left()
            time.sleep(0.2)

    def memory(self):
        """Rss and Pss of the server, in KiB, as its mappings have them. VmRSS is less exact: before
        Linux 6.2 each thread keeps up to 63 pages to itself."""
        text = self.run("read -r p </run/ftpsd.pid && cat /proc/$p/smaps_rollup")
        numbers = {line.split(":")[0]: int(line.split()[1]) for line in text.splitlines() if ": " in line}
        return numbers["Rss"], numbers["Pss"]

    def cut(self):
        """Power off, in the middle of whatever goes on."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)
            self.process.stdout.close()
            self.process = None
        if self.channel is not None:
            self.channel.close()
            self.channel = None

    def stop(self):
        """Power off after the file systems are unmounted."""
        try:
            self.run("/etc/init.d/S50ftpsd stop; sync; umount /data; umount /card 2>/dev/null; :")
        finally:
            self.cut()

    def last_words(self):
        """The end of the console and of the log, for whoever looks into a failure."""
        words = []
        if self.console.exists():
            words += ["console:", *self.console.read_text(errors="replace").splitlines()[-40:]]
        if self.channel is not None and self.process is not None and self.process.poll() is None:
            try:
                words += ["log:", self.run("tail -n 40 /var/log/messages; ps | grep ftpsd; free; df", 10)]
            except (OSError, BoardFailed) as failure:
                words.append(f"(no log: {failure})")
        return "\n".join(words)
