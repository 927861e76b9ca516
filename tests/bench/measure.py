"""What a server's processes take: CPU seconds and memory."""

import os
import re

TICK = os.sysconf("SC_CLK_TCK")


def read(path):
    with open(path, encoding="latin-1") as file:
        return file.read()


def descendants(pid):
    """The process and what it has started, as far as it is there still."""
    found, ahead = [], [pid]
    while ahead:
        pid = ahead.pop()
        found.append(pid)
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                ahead += map(int, read(f"/proc/{pid}/task/{task}/children").split())
        except OSError:
            pass
    return found


def hierarchy():
    """Where a cgroup that counts CPU time can be made, and the file and unit it counts in."""
    mounts = [line.split() for line in read("/proc/mounts").splitlines()]
    unified = [it[1] for it in mounts if it[2] == "cgroup2"]
    cpuacct = [it[1] for it in mounts if it[2] == "cgroup" and "cpuacct" in it[3].split(",")]
    for root, name, unit in [(it, "cpu.stat", 1e-6) for it in unified] + [
        (it, "cpuacct.usage", 1e-9) for it in cpuacct
    ]:
        probe = f"{root}/ftpsd-bench.{os.getpid()}"
        try:
            os.mkdir(probe)
            there = os.path.exists(f"{probe}/{name}")
            os.rmdir(probe)
            if there:
                return root, name, unit
        except OSError:
            pass
    return None


class Group:
    """A server's processes, in a cgroup of their own where that can be made."""

    place = hierarchy()
    source = (
        {"cpu.stat": "its own cgroup (version 2)", "cpuacct.usage": "its own cgroup (version 1)"}[place[1]]
        if place
        else "/proc/PID/stat of its processes, children that have ended included"
    )

    def __init__(self, pid):
        self.pid = pid
        self.path = None
        if not self.place:
            return
        root = self.place[0]
        path = f"{root}/ftpsd-bench.{os.getpid()}.{pid}"
        try:
            os.mkdir(path)
            self.path = path
            for _ in range(2):  # what is started meanwhile
                for each in descendants(pid):
                    self._move(path, each)
        except OSError:
            pass

    @staticmethod
    def _move(path, pid):
        try:
            with open(path + "/cgroup.procs", "w", encoding="ascii") as file:
                file.write(str(pid))
        except OSError:
            pass

    def processes(self):
        if self.path:
            there = [int(it) for it in read(self.path + "/cgroup.procs").split()]
            if there:
                return there
        return descendants(self.pid)

    def cpu(self):
        """Seconds so far."""
        if self.path:
            _, name, unit = self.place
            number = re.search(r"\d+", read(f"{self.path}/{name}"))
            return int(number.group()) * unit
        return sum(cpu_of(pid) for pid in self.processes())

    def memory(self):
        """KiB: the share of what is mapped (Pss), and the most that was resident (VmHWM)."""
        pss = most = 0
        for pid in self.processes():
            try:
                pss += int(re.search(r"^Pss:\s+(\d+)", read(f"/proc/{pid}/smaps_rollup"), re.M).group(1))
                most += int(re.search(r"^VmHWM:\s+(\d+)", read(f"/proc/{pid}/status"), re.M).group(1))
            except (OSError, AttributeError):
                pass
        return pss, most

    def forget_most(self):
        """Sets VmHWM to what is resident now."""
        for pid in self.processes():
            try:
                with open(f"/proc/{pid}/clear_refs", "w", encoding="ascii") as file:
                    file.write("5")
            except OSError:
                pass

    def mapped(self):
        """Program files in use, with their bytes."""
        files = {}
        for pid in self.processes():
            try:
                for line in read(f"/proc/{pid}/maps").splitlines():
                    words = line.split(None, 5)
                    if len(words) == 6 and words[5].startswith("/") and "x" in words[1]:
                        path = os.path.realpath(words[5])
                        files[path] = os.path.getsize(path)
            except OSError:
                pass
        return files

    def close(self):
        if not self.path:
            return
        for pid in read(self.path + "/cgroup.procs").split():
            self._move(self.place[0], pid)
        for _ in range(100):
            try:
                os.rmdir(self.path)
                return
            except OSError:
                pass


def cpu_of(pid):
    """Seconds of a process and of its children that have ended."""
    try:
        fields = read(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()
        return sum(int(it) for it in fields[11:15]) / TICK
    except OSError:
        return 0.0


def busy():
    """Seconds that all CPUs were busy so far."""
    fields = [int(it) for it in read("/proc/stat").split("\n", 1)[0].split()[1:]]
    return (sum(fields[:8]) - fields[3] - fields[4]) / TICK
