"""Attacks before a login: connects, silence, slow bytes, resets, wrong passwords."""

import collections
import contextlib
import os
import socket
import ssl
import struct
import time

import honest
from attack import all_of, attack
from server import Failure, HOST, PASSWORD, USER

# To the kernel: close with RST.
RESET = struct.pack("ii", 1, 0)
# Half of a ClientHello.
HALF_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
# Leave without a word to the other side: no FIN, no RST (linux/tcp.h). Only root may.
TCP_REPAIR = 19
# Of steps().
STEPS = 46


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


def vanish(sock):
    """As if the cable was pulled; where that is not permitted it is a reset."""
    try:
        sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
        sock.close()
    except PermissionError:
        reset(sock)


def ended(sock, within):
    """Waits for the server's end of a connection."""
    sock.settimeout(within)
    try:
        while sock.recv(4096):
            pass
    except (ConnectionResetError, BrokenPipeError):
        pass
    except TimeoutError:
        raise Failure(f"the server did not end a connection within {within} s") from None
    finally:
        sock.close()


@attack("connects", twice=True)
def connects(server, pressure, count):
    done, most = 0, count(10_000)
    while done < most or pressure.wanted():
        port = server.implicit if done % 2 else server.explicit
        try:
            # One address: several could have all the places before a login, which `crowd` is about.
            sock = honest.connect(server, "127.1.1.1", port)
        except ConnectionResetError:
            # The server was quicker.
            continue
        # At once most would be turned away, and begin no session that could leak.
        if port == server.explicit and done % 10:
            with contextlib.suppress(OSError, EOFError):
                honest.line(sock)
        reset(sock) if done % 3 else sock.close()
        done += 1
        if done == most // 10:
            pressure.on()
    return f"{done} connections from one address, closed at once or when greeted, most with RST"


@attack("crowd", many=True)
def crowd(server, pressure, count):
    with contextlib.ExitStack() as held:
        most = count(2_000)
        for number in range(most):
            # Nothing is read of what turns them away either.
            source = f"127.1.2.{number % 250 + 1}"
            held.enter_context(honest.connect(server, source,
                                              server.implicit if number % 2 else server.explicit))
        pressure.hold()
    return f"{most} connections from 250 addresses, held open, silent"


@attack("one-address")
def one_address(server, pressure, count):
    """One address takes all that it gets, without a login and with one; another is served."""
    most, held = count(400), []
    with contextlib.ExitStack() as stack:
        for number in range(most // 20):
            with contextlib.suppress(EOFError, OSError):
                tls = honest.secured(server, "127.1.6.1", logged_in=number % 2)
                held.append(stack.enter_context(tls))
        for number in range(most):
            stack.enter_context(honest.connect(server, "127.1.6.1", server.implicit if number % 2 else server.explicit))
        pressure.hold()
    return f"{most} connections from one address, held open; {len(held)} sessions over TLS"


def silent(server, source):
    """Connections of each kind that say nothing more."""
    half = honest.connect(server, source, server.implicit)
    half.sendall(HALF_HELLO)
    named = honest.secured(server, source, server.implicit)
    honest.command_of(named, f"USER {USER}")
    asked = honest.connect(server, source)
    asked.sendall(b"AUTH TLS\r\n")
    return [honest.connect(server, source), honest.connect(server, source, server.implicit), half,
            named, asked]


@attack("silent")
def silent_peers(server, pressure, count):
    sockets, before = silent(server, "127.1.3.1"), server.cpu()
    time.sleep(0.5)
    if pressure.alone and server.cpu() - before > 0.25:
        raise Failure("silence takes CPU")
    pressure.hold()
    # login-timeout is the longest of their deadlines.
    all_of(lambda sock: ended(sock, 20), sockets)
    return "5 kinds of silence until the server ended them: clear, implicit, half a hello, USER, AUTH"


@attack("half-open")
def half_open(server, pressure, count):
    most = count(20)
    for _ in range(most):
        for sock in silent(server, "127.1.4.1"):
            vanish(sock)
        # Each round is turned away as long as the one before holds the address's share.
        if pressure.said:
            break
        pressure.hold()
    how = "vanished without FIN" if os.geteuid() == 0 else "reset, as only root can vanish"
    return f"the same 5 from one address, {how}; awaited until their deadlines"


@attack("slow")
def slow(server, pressure, count):
    """One byte after the other, for as long as the server takes it."""
    def trickle(kind):
        source, begun = "127.1.5.1", time.monotonic()
        if kind == "handshake":
            sock = honest.connect(server, source, server.implicit)
            sending = HALF_HELLO + b"\1" * 4000
        elif kind == "command":
            sock = honest.connect(server, source)
            sending = b"x" * 4000
        elif kind == "commands":
            sock = honest.connect(server, source)
            sending = b"NOOP\r\n" * 1000
        else:
            sock = honest.secured(server, source)
            sending = b"USER " + b"x" * 4000
        with sock:
            sock.settimeout(0.05)
            for byte in sending:
                if time.monotonic() - begun > 20:
                    raise Failure(f"slow bytes ({kind}) kept a connection for 20 s")
                try:
                    sock.sendall(bytes([byte]))
                    if sock.recv(100) == b"":
                        break
                except (TimeoutError, ssl.SSLWantReadError):
                    pass
                except OSError:
                    break
        return time.monotonic() - begun

    kinds = ["handshake", "command", "commands", "secured"]
    pressure.on()
    took = all_of(trickle, kinds)
    return f"20 bytes a second: {', '.join(kinds)}; ended after {min(took):.0f} to {max(took):.0f} s"


def steps(server, source):
    """Yields after each step of a session, with the sockets that are open."""
    control = honest.connect(server, source)
    yield [control]
    honest.greeted(control)
    control.sendall(b"AUTH TLS\r\n")
    yield [control]
    honest.line(control)
    raw = socket.socket(fileno=os.dup(control.fileno()))
    raw.sendall(HALF_HELLO)
    yield [raw, control]
    raw.close()
    control.close()
    control = honest.secured(server, source)
    yield [control]
    for command in [f"USER {USER}", f"PASS {PASSWORD}", "PBSZ 0", "PROT P", "TYPE I"]:
        control.sendall(command.encode() + b"\r\n")
        yield [control]
        honest.reply(control)
    for verb in ["RETR steps", f"STOR steps-{source}", "MLSD", "LIST", f"APPE steps-{source}"]:
        port = honest.passive(control)
        yield [control]
        data = honest.connect(server, source, port)
        yield [data, control]
        control.sendall(verb.encode() + b"\r\n")
        yield [data, control]
        yield [control, data]
        honest.line(control)
        if verb == "RETR steps":
            data.sendall(HALF_HELLO)
            yield [data, control]
            data.close()
            honest.line(control)
        else:
            data.close()
            control.sendall(b"ABOR\r\n")
            honest.line(control), honest.line(control)
        data = honest.connect(server, source, honest.passive(control))
        control.sendall(verb.encode() + b"\r\n")
        honest.line(control)
        data = control.context.wrap_socket(data, session=control.session)
        yield [data, control]
        if verb.startswith(("STOR", "APPE")):
            data.sendall(bytes(200_000))
        else:
            data.recv(1000)
        yield [data, control]
        yield [control, data]
        reset(data)
        # 426, or 226 where the server was done.
        honest.line(control)
    control.sendall(b"QUIT\r\n")
    yield [control]


@attack("resets")
def resets(server, pressure, count):
    with open(f"{server.root}/steps", "wb") as file:
        file.truncate(4 << 20)
    most, done = STEPS * count(10), []

    def cut(number):
        source = f"127.1.{10 + number // 250 % 20}.{number % 250 + 1}"
        deadline = time.monotonic() + 60
        while True:
            try:
                at, step = number % STEPS, -1
                for step, sockets in enumerate(steps(server, source)):
                    if step == at:
                        for sock in sockets:
                            vanish(sock) if number // STEPS % 4 == 3 else reset(sock)
                        done.append(step)
                        pressure.on()
                        return
                raise Failure(f"a session has only {step + 1} steps")
            except EOFError:
                # Those that vanished before their login are counted until their deadline.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    all_of(cut, range(most), 6)
    while pressure.wanted():
        cut(len(done))
    return f"{len(done)} sessions, reset after each of {STEPS} steps, a quarter without RST"


@attack("passwords", many=True)
def passwords(server, pressure, count):
    """Wrong ones, three a connection, until the address has to wait. 421 and 530 alone come back."""
    most, tries, names = count(1_500), [], ["anna", "root", "admin", "guest"]

    def guess(number):
        source = f"127.2.{number // 250}.{number % 250 + 1}"
        for turn in range(5):
            try:
                with honest.secured(server, source) as sock:
                    # Of each name three count, and of the address ten; the fifth is turned away.
                    for name in (names * 2)[turn:turn + 3]:
                        honest.command_of(sock, f"USER {name}")
                        answer = honest.command_of(sock, f"PASS {number}")
                        if not answer.startswith(("530 ", "421 ")):
                            raise Failure(f"a wrong password was answered {answer!r}")
                        tries.append(source)
            except (EOFError, OSError):
                # Turned away: before the login there is no room, or the address waits.
                pass
            if number == most // 4:
                pressure.on()

    all_of(guess, range(most))
    while pressure.wanted():
        guess(0)
    # Where there is room for all of them.
    through = [source for source, number in collections.Counter(tries).items() if number >= 12]
    if len(through) > most // 2 and "reason=login-penalty" not in server.log():
        raise Failure("no address had to wait, however many passwords were wrong")
    return f"{len(tries)} wrong passwords from {most} addresses, three at most a connection"
