"""Strangers at the shared port, and how long its owner's transfers take beside them."""

import contextlib
import itertools
import socket
import time

from attack import FORK
from connections import HALF_HELLO
from crowd import Session, VERSIONS
from server import HOST

# How many of them are held open at once.
HELD = 200


def silent(_):
    return HOST, b""


def half_hello(_):
    return HOST, HALF_HELLO


def garbage(_):
    return HOST, b"GET / HTTP/1.1\r\nHost: there\r\n\r\n"


def elsewhere(number):
    return f"127.7.{number // 250 % 250}.{number % 250 + 1}", HALF_HELLO if number % 2 else b""


# How many come in a second, whom they are, and how many there are in all; `None` for as long as it lasts.
KINDS = {
    "silent": (silent, 300, None),
    "half a hello": (half_hello, 300, None),
    "garbage": (garbage, 300, None),
    "other addresses": (elsewhere, 300, None),
    "a flood of 5,000": (silent, None, 5000),
}


def come(server, port, kind, most, over, made):
    """Connects again and again, and keeps the last; counts in `made`. Until `over`, or until `most`
    have come as fast as they can."""
    who, rate, _ = KINDS[kind]
    held, begun = [], time.monotonic()
    with contextlib.ExitStack() as open_ones:
        for number in itertools.count():
            if over.is_set() or most and number >= most:
                break
            if rate:
                time.sleep(max(0, begun + number / rate - time.monotonic()))
            source, says = who(number)
            one = open_ones.enter_context(socket.socket())
            one.settimeout(5)
            one.bind((source, 0))
            with contextlib.suppress(OSError):
                one.connect((server.host, port))
                one.sendall(says)
            made.value += 1
            held.append(one)
            if len(held) > HELD:
                held.pop(0).close()
        over.wait(60)


@contextlib.contextmanager
def passersby(server, port, kind, most):
    """They come while this lasts; gives the counter of them."""
    over, made = FORK.Event(), FORK.Value("l", 0)
    process = FORK.Process(target=come, args=(server, port, kind, most, over, made))
    process.start()
    try:
        yield made
    finally:
        over.set()
        process.join(10)
        if process.is_alive():
            process.kill()
            process.join()


def times(owners, count, more=lambda: False):
    """Milliseconds of transfers one after the other, at least so many, and what failed. Whoever failed
    logs in anew."""
    took, failures = [], []
    data = b"x" * 4096
    for number in itertools.count():
        if number >= count and not more():
            return took, failures
        turn = number % len(owners)
        owner = owners[turn]
        begun = time.monotonic()
        try:
            if number % 3 == 2:
                owner.store("small-up", data)
            else:
                owner.retrieve("small", data)
        except Exception as error:  # whatever it is, the owner was not served
            failures.append(repr(error))
            # What it was told comes to nobody.
            owner.control.close()
            owners[turn] = owner.again()
        took.append((time.monotonic() - begun) * 1000)


def owners_of(server):
    """Of every kind, all at the strangers' address; they take turns."""
    return [Session(server, HOST, version, early) for version in VERSIONS.values() for early in (False, True)]


def beside(server, port, kind, rounds, count):
    """Rounds without strangers and with them, in turns: the times of both, how many strangers came,
    and what failed."""
    with open(f"{server.root}/small", "wb") as file:
        file.write(b"x" * 4096)
    without, beside_them, failed, came = [], [], [], 0
    owners = owners_of(server)
    most = KINDS[kind][2] and max(1, KINDS[kind][2] * count // 100)
    for _ in range(rounds):
        took, failures = times(owners, count)
        without += took
        failed += failures
        with passersby(server, port, kind, most) as made:
            while made.value == 0:
                time.sleep(0.001)
            # Beside a flood, those while it lasts and no others.
            took, failures = times(owners, 1 if most else count, lambda: made.value < (most or count))
            beside_them += took
            failed += failures
        came += made.value
    for owner in owners:
        owner.close()
    return without, beside_them, came, failed


def quantile(values, part):
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]
