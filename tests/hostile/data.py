"""Attacks on data connections: never made, never secured, never read, never fed, fed slowly."""

import os
import random
import socket
import time

import honest
from attack import SERVED_WITHIN, all_of, attack
from commands import MIB, expect
from connections import HALF_HELLO, vanish
from server import Failure, Server


def start(server, source, verb):
    """A session with a transfer whose data connection is secured."""
    control = honest.secured(server, source, logged_in=True)
    port = honest.passive(control)
    data = honest.connect(server, source, port)
    data.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    control.sendall(verb.encode() + b"\r\n")
    expect(honest.reply(control), "150")
    return control, control.context.wrap_socket(data, session=control.session)


@attack("unread-data")
def unread_data(server, pressure, count):
    with open(f"{server.root}/big", "wb") as file:
        file.truncate(64 * MIB)
    held = all_of(lambda n: start(server, f"127.4.1.{n % 2 + 1}", "RETR big"), range(10), 6)
    pressure.hold()
    for control, data in held:
        expect(honest.reply(control), "426")
        expect(honest.command_of(control, "NOOP"), "200")
        data.close()
        control.close()
    return "10 downloads of 64 MiB that nobody reads; each ended with 426, its session went on"


@attack("unfed-data")
def unfed_data(server, pressure, count):
    held = all_of(lambda n: start(server, f"127.4.2.{n % 2 + 1}", f"STOR unfed-{n}"), range(10), 6)
    for number, (control, data) in enumerate(held):
        data.sendall(bytes(10_000 * number))
    pressure.hold()
    for control, data in held:
        expect(honest.reply(control), "426")
        data.close()
        control.close()
    if any(name.startswith("unfed") for name in os.listdir(server.root)):
        raise Failure("an upload that stood still has been published")
    return "10 uploads that stand still; each ended with 426, none was published"


@attack("slow-data")
def slow_data(server, pressure, count):
    """A byte now and then is less than `slowest`, whichever way."""
    def trickle(number):
        verb = "RETR big" if number % 2 else f"STOR slow-{number}"
        control, data = start(server, f"127.4.3.{number % 2 + 1}", verb)
        begun = time.monotonic()
        control.setblocking(False)
        try:
            while time.monotonic() - begun < 60:
                try:
                    if number % 2:
                        data.recv(10)
                    else:
                        data.sendall(b"x")
                except OSError:
                    break
                if came(control):
                    break
            else:
                raise Failure(f"{verb} went on at 2 bytes a second")
        finally:
            data.close()
            control.close()
        return time.monotonic() - begun

    def came(control):
        # TLS has tickets on the way besides; a reply is what counts.
        try:
            return control.recv(1)
        except OSError:
            time.sleep(0.5)

    with open(f"{server.root}/big", "wb") as file:
        file.truncate(64 * MIB)
    pressure.on()
    took = all_of(trickle, range(8), 8)
    return f"8 transfers at 2 to 20 bytes a second, ended after {min(took):.0f} to {max(took):.0f} s"


@attack("half-open-data")
def half_open_data(server, pressure, count):
    """Connections that are never made, never secured, half secured, or gone."""
    def begin(number):
        source = f"127.4.4.{number % 2 + 1}"
        control = honest.secured(server, source, logged_in=True)
        port, data = honest.passive(control), None
        if number % 5:
            data = honest.connect(server, source, port)
            if number % 5 > 1:
                data.sendall(HALF_HELLO)
        control.sendall([b"RETR big\r\n", b"STOR x\r\n", b"MLSD\r\n"][number % 3])
        if data:
            expect(honest.reply(control), "150")
        if number % 5 == 3:
            vanish(data)
        if number % 5 == 4:
            data.close()
        return control, data

    with open(f"{server.root}/big", "wb") as file:
        file.truncate(64 * MIB)
    held = all_of(begin, range(10), 6)
    pressure.hold()
    for control, data in held:
        expect(honest.reply(control), "425", "522")
        expect(honest.command_of(control, "NOOP"), "200")
        control.close()
        if data:
            data.close()
    return "10 transfers whose data connection is not made, silent, half a hello, gone or closed: 425, 522"


@attack("cut-uploads")
def cut_uploads(server, pressure, count):
    """No upload that was cut has a 226 or a name."""
    most = count(200)

    def cut(number):
        control, data = start(server, f"127.4.5.{number % 4 + 1}", f"STOR cut-{number}")
        with control:
            data.sendall(os.urandom(number * 997 % 200_000))
            raw = socket.socket(fileno=data.detach())
            if number % 3 == 0:
                raw.close()
            elif number % 3 == 1:
                # Within a record.
                raw.sendall(b"\x17\x03\x03\x40\x00" + bytes(100))
                raw.close()
            else:
                raw.sendall(b"\x15\x03\x03\x00\x13" + bytes(19))
                raw.close()
            # What came together with the end of the handshake fails the handshake.
            expect(honest.reply(control), "426", "522")
            pressure.on()
            expect(honest.command_of(control, f"DELE cut-{number}"), "250", "550")

    all_of(cut, range(most), 6)
    left = [name for name in os.listdir(server.root) if "cut-" in name or name.startswith(".ftpsd-")]
    if any(name.startswith("cut-") for name in left):
        raise Failure(f"published, though cut: {left}")
    return f"{most} uploads cut by FIN, inside a record, by a forged close_notify: 426 or 522, none published"


@attack("active", alone=True)
def active(server, pressure, count):
    """Ports that the client names and that take no connection, close it, say nothing or rubbish."""
    def begin(number):
        source = f"127.4.6.{number % 2 + 1}"
        control = honest.secured(other, source, logged_in=True)
        port, crowd = socket.socket(), []
        # On this host no passive port of the server's may be named.
        while True:
            try:
                port.bind((source, random.randrange(20_000, 30_000)))
                break
            except OSError:
                pass
        if number % 5:
            port.listen(0)
        for _ in range(3 if number % 5 == 1 else 0):
            # Its queue is full, so that a SYN has no answer.
            crowd.append(socket.socket())
            crowd[-1].setblocking(False)
            crowd[-1].connect_ex(port.getsockname())
        high, low = divmod(port.getsockname()[1], 256)
        expect(honest.command_of(control, f"PORT {source.replace('.', ',')},{high},{low}"), "200")
        control.sendall([b"MLSD\r\n", b"STOR x\r\n"][number % 2])
        if number % 5 > 2:
            data = port.accept()[0]
            data.close() if number % 5 == 3 else data.sendall(b"GET / HTTP/1.1\r\n\r\n")
            crowd.append(data)
        return control, [port, *crowd]

    with Server(server.program, server.top + "active-mode = true\n") as other:
        for _ in range(20):
            honest.visit(other)
        other.quiet()
        before = other.usage()
        for _ in range(count(5)):
            held = all_of(begin, range(10), 6)
            took = honest.visit(other)
            if took > SERVED_WITHIN:
                raise Failure(f"an honest client was served after {took:.2f} s")
            for control, others in held:
                answer = honest.reply(control)
                if answer.startswith("150"):
                    answer = honest.reply(control)
                expect(answer, "425", "522")
                expect(honest.command_of(control, "NOOP"), "200")
                control.close()
                for sock in others:
                    sock.close()
        other.quiet(before)
        other.complete_log()
    return f"{count(5) * 10} ports of clients: refused, full, silent, closed, talking rubbish; each 425 or 522"
