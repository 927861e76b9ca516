"""Many sessions at once that share few passive ports, and whether each gets its own files."""

import collections
import contextlib
import hashlib
import os
import random
import ssl
import threading
import time

import honest
import networks
from attack import FORK

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
SIZES = 4096, 200_000
# What a session came to: transfers that were right, that failed, that brought another file.
Outcome = collections.namedtuple("Outcome", "right failures wrong")
# How a session behaves, and where it is: its address, its namespace or `None`.
Client = collections.namedtuple("Client", "version early source namespace")


def content(number, turn):
    """No two are the same."""
    chance = random.Random(number * 1000 + turn)
    return chance.randbytes(SIZES[(number + turn) % 2])


class WrongFile(Exception):
    """What must never be."""


class Session:
    """A control connection, and transfers as its client does them: an early one shakes hands before
    the command, a usual one after the mark."""

    def __init__(self, server, source, version=None, early=False):
        self.server, self.source, self.version, self.early = server, source, version, early
        self.control = honest.secured(server, source, version=version, logged_in=True)

    def again(self):
        """Another one like it."""
        return Session(self.server, self.source, self.version, self.early)

    def begin(self, command):
        port = honest.passive(self.control)
        data = honest.connect(self.server, self.source, port)
        try:
            if self.early:
                data = self.secured(data)
            answer = honest.command_of(self.control, command)
            if not answer.startswith("150"):
                raise EOFError(answer.strip())
            return data if self.early else self.secured(data)
        except BaseException:
            data.close()
            raise

    def secured(self, data):
        return self.control.context.wrap_socket(data, session=self.control.session)

    def end(self, data):
        with contextlib.suppress(OSError, ValueError):
            data = data.unwrap()
        data.close()
        answer = honest.reply(self.control)
        if not answer.startswith("226"):
            raise EOFError(answer.strip())

    def retrieve(self, name, expected):
        with self.begin(f"RETR {name}") as data:
            received = hashlib.sha256()
            while piece := data.recv(65_536):
                received.update(piece)
            self.end(data)
        if received.digest() != hashlib.sha256(expected).digest():
            raise WrongFile(name)

    def store(self, name, data):
        with self.begin(f"STOR {name}") as connection:
            connection.sendall(data)
            self.end(connection)

    def close(self):
        with contextlib.suppress(OSError, EOFError):
            honest.command_of(self.control, "QUIT")
        self.control.close()


def session(server, client, number, transfers, start):
    """One session's transfers, up and down in turns."""
    failures, right, wrong, mine = [], 0, 0, None
    try:
        mine = Session(server, client.source, VERSIONS[client.version], client.early)
    except (OSError, EOFError, AssertionError) as error:
        failures.append(f"no login: {error!r}")
    start.wait()
    for turn in range(transfers):
        try:
            # One that failed may have replies to come.
            mine = mine or Session(server, client.source, VERSIONS[client.version], client.early)
            if turn % 2:
                mine.retrieve(f"down{number}-{turn}", content(number, turn))
            else:
                mine.store(f"up{number}-{turn}", content(number, turn))
            right += 1
        except WrongFile as error:
            wrong += 1
            failures.append(f"another file came for {error}")
        except (OSError, EOFError, AssertionError) as error:
            failures.append(f"{client}: {error!r}")
            if mine:
                mine.control.close()
                mine = None
    if mine:
        mine.close()
    return Outcome(right, failures, wrong)


def part(server, clients, transfers, start, pipe):
    """Some of the sessions, in a process of their own: those of one share an interpreter."""
    if clients[0][1].namespace is not None:
        networks.enter(clients[0][1].namespace)
    outcomes = []

    def one(number, client):
        outcomes.append(session(server, client, number, transfers, start))

    crew = [threading.Thread(target=one, args=given) for given in clients]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    pipe.send(outcomes)


def parts(clients, size):
    """The clients with their numbers, in groups that a process can have: of one namespace each."""
    groups = collections.defaultdict(list)
    for number, client in enumerate(clients):
        groups[client.namespace].append((number, client))
    return [group[at:at + size] for group in groups.values() for at in range(0, len(group), size)]


def crowd(server, clients, transfers, size=10):
    """All of them at once; gives the outcome of all together, and the seconds that the transfers took."""
    for number in range(len(clients)):
        for turn in range(1, transfers, 2):
            with open(f"{server.root}/down{number}-{turn}", "wb") as file:
                file.write(content(number, turn))
    start = FORK.Barrier(len(clients) + 1)
    running = []
    try:
        for group in parts(clients, size):
            ours, theirs = FORK.Pipe(duplex=False)
            process = FORK.Process(target=part, args=(server, group, transfers, start, theirs))
            process.start()
            theirs.close()
            running.append((process, ours))
        start.wait(300)
        begun = time.monotonic()
        outcomes = [outcome for _, pipe in running for outcome in pipe.recv()]
        took = time.monotonic() - begun
    finally:
        for process, pipe in running:
            # What it had to say it has said.
            process.join(5)
            if process.is_alive():
                process.kill()
                process.join()
            pipe.close()
    right = sum(outcome.right for outcome in outcomes)
    wrong = sum(outcome.wrong for outcome in outcomes)
    failures = [failure for outcome in outcomes for failure in outcome.failures]
    for number in range(len(clients)):
        for turn in range(transfers):
            name = f"{server.root}/{'down' if turn % 2 else 'up'}{number}-{turn}"
            if not os.path.exists(name):
                continue
            with open(name, "rb") as file:
                if file.read() != content(number, turn):
                    wrong += 1
                    failures.append(f"{name} is another file")
            os.unlink(name)
    return Outcome(right, failures, wrong), took
