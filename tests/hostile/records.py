"""Odd records of TLS: in place of a handshake, and, made with the keys of a session, after one."""

import ctypes
import hashlib
import hmac
import os
import ssl
import struct
import tempfile
import threading

import honest
from attack import NotRun, all_of, attack
from server import Failure

CHANGE, ALERT, HANDSHAKE, DATA, HEARTBEAT = 20, 21, 22, 23, 24
KEY_UPDATE = b"\x18\0\0\1"


def record(kind, body, version=0x0303, length=None):
    """A record as it is on the wire."""
    return struct.pack(">BHH", kind, version, len(body) if length is None else length) + body


def hello():
    """A ClientHello as OpenSSL has it, in its record."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = honest.context().wrap_bio(incoming, outgoing)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def oddities():
    """What stands where a ClientHello belongs."""
    good = hello()
    return {
        "unknown content type": record(99, b"x" * 100),
        "no bytes in a handshake record": record(HANDSHAKE, b"") * 1000,
        "no bytes in other records": (record(DATA, b"") + record(CHANGE, b"") + record(ALERT, b"")) * 100,
        "a length of 65535": record(HANDSHAKE, bytes(65535)),
        "2^14 + 257 bytes": record(HANDSHAKE, b"\1\0\x40\0" + bytes(16384 + 253)),
        "a message of 16 MiB": record(HANDSHAKE, b"\1\xff\xff\xff" + bytes(16000)) * 40,
        "warnings": record(ALERT, b"\1\x5a") * 10_000,
        "a fatal alert": record(ALERT, b"\2\x28"),
        "close_notify": record(ALERT, b"\1\0"),
        "ChangeCipherSpec": record(CHANGE, b"\1") * 10_000,
        "application data": record(DATA, b"USER anna\r\n"),
        "heartbeat": record(HEARTBEAT, b"\1\x40\0"),
        "version 0": record(HANDSHAKE, good[5:], 0),
        "SSLv2": b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + bytes(40),
        "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
        "FTP": b"USER anna\r\nPASS x\r\n",
        "random": os.urandom(100_000),
        "one byte to a record": b"".join(record(HANDSHAKE, good[at:at + 1]) for at in range(5, len(good))) + b"",
        "a good one and rubbish": good + os.urandom(5000),
        "a good one twice": good + good,
        "Finished first": record(HANDSHAKE, b"\x14\0\0\x0c" + bytes(12)),
        "KeyUpdate first": record(HANDSHAKE, KEY_UPDATE + b"\1"),
        "half of a good one": good[:len(good) // 2],
        "extensions beyond their end": good[:-10] + b"\xff" * 10,
    }


def drain(sock, within):
    """Whatever comes, until the server ends it."""
    sock.settimeout(within)
    try:
        while sock.recv(65536):
            pass
    except TimeoutError:
        raise Failure(f"the connection is open after {within} s") from None
    except OSError:
        pass


@attack("odd-handshakes")
def odd_handshakes(server, pressure, count):
    """No oddity holds a connection longer than tls-timeout, on either port. Without that it would be
    login-timeout, which is longer by 3 s."""
    def send(item):
        number, (name, odd) = item
        for port in [server.explicit, server.implicit]:
            with honest.connect(server, f"127.5.1.{number % 6 + 1}", port) as sock:
                if port == server.explicit:
                    honest.line(sock)
                    sock.sendall(b"AUTH TLS\r\n")
                    honest.line(sock)
                try:
                    sock.sendall(odd)
                except OSError:
                    continue
                try:
                    drain(sock, server.tls_timeout + 2 if pressure.alone else 15)
                except Failure as failure:
                    raise Failure(f"{name}: {failure}") from None
        pressure.on()

    odd = oddities()
    for _ in range(count(5)):
        all_of(send, enumerate(odd.items()), 6)
    return f"{count(5) * 2 * len(odd)} handshakes with {len(odd)} oddities, explicit and implicit"


def expand(secret, label, length):
    """HKDF-Expand-Label of RFC 8446 section 7.1 with SHA-256, one block."""
    label = b"tls13 " + label
    info = struct.pack(">HB", length, len(label)) + label + b"\0\1"
    return hmac.digest(secret, info, "sha256")[:length]


def prf(secret, label, seed, length, kind):
    """The PRF of RFC 5246 section 5."""
    seed, out = label + seed, b""
    last = seed
    while len(out) < length:
        last = hmac.digest(secret, last, kind)
        out += hmac.digest(secret, last + seed, kind)
    return out[:length]


class Gcm:
    """AES-GCM by the libcrypto that Python's ssl has."""

    def __init__(self, key):
        try:
            import _ssl
            self.lib = ctypes.CDLL(_ssl.__file__)
            self.cipher = getattr(self.lib, f"EVP_aes_{len(key) * 8}_gcm")
        except (AttributeError, OSError, ImportError) as error:
            raise NotRun(f"no libcrypto to make records with: {error}") from None
        self.cipher.restype = self.lib.EVP_CIPHER_CTX_new.restype = ctypes.c_void_p
        self.key = key

    def seal(self, nonce, extra, plain):
        lib, length = self.lib, ctypes.c_int()
        ctx = ctypes.c_void_p(lib.EVP_CIPHER_CTX_new())
        out, tag = ctypes.create_string_buffer(len(plain) + 16), ctypes.create_string_buffer(16)
        assert lib.EVP_EncryptInit_ex(ctx, ctypes.c_void_p(self.cipher()), None, self.key, nonce)
        assert lib.EVP_EncryptUpdate(ctx, None, ctypes.byref(length), extra, len(extra))
        assert lib.EVP_EncryptUpdate(ctx, out, ctypes.byref(length), plain, len(plain))
        done = length.value
        assert lib.EVP_EncryptFinal_ex(ctx, None, ctypes.byref(length))
        assert lib.EVP_CIPHER_CTX_ctrl(ctx, 0x10, 16, tag)
        lib.EVP_CIPHER_CTX_free(ctx)
        return out.raw[:done] + tag.raw


class Insider:
    """A client that has shaken hands, and then makes its records itself."""

    def __init__(self, server, source, version, logged_in):
        self.version = version
        with tempfile.NamedTemporaryFile("r") as keys:
            context = honest.context(None, version)
            if version == ssl.TLSVersion.TLSv1_2:
                context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
            context.keylog_filename = keys.name
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            self.client = context.wrap_bio(incoming, outgoing)
            self.sock = honest.connect(server, source, server.implicit)
            first, received = b"", b""
            while True:
                try:
                    self.client.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    sent = outgoing.read()
                    first = first or sent
                    self.sock.sendall(sent)
                    more = self.sock.recv(65536)
                    if not more:
                        raise EOFError("the end within the handshake")
                    received += more
                    incoming.write(more)
            self.sock.sendall(outgoing.read())
            # A label, the random bytes of the client, a secret.
            lines = {line.split()[0]: line.split() for line in keys if not line.startswith("#")}
        self.incoming, self.outgoing, self.sequence = incoming, outgoing, 0
        # One byte of a greeting is enough to know that it is served.
        self.receive()
        if version == ssl.TLSVersion.TLSv1_3:
            if "AES_128" not in self.client.cipher()[0] and "AES_256" not in self.client.cipher()[0]:
                raise NotRun(f"the server chose {self.client.cipher()[0]}")
            self.change(bytes.fromhex(lines["CLIENT_TRAFFIC_SECRET_0"][2]))
        else:
            master = bytes.fromhex(lines["CLIENT_RANDOM"][2])
            # Record header 5, message header 4, version 2.
            randoms = received[11:43] + first[11:43]
            block = prf(master, b"key expansion", randoms, 40, "sha256")
            self.gcm, self.iv, self.sequence = Gcm(block[:16]), block[32:36], 1
        if logged_in:
            for command in [b"USER anna\r\n", b"PASS pass word\r\n"]:
                self.send(DATA, command)
                self.receive()

    def change(self, secret):
        """The keys of a secret of TLS 1.3. The suite is that with SHA-256, or SHA-384."""
        if len(secret) != 32:
            raise NotRun("the server chose a suite with SHA-384")
        self.secret, self.sequence = secret, 0
        self.gcm, self.iv = Gcm(expand(secret, b"key", 16)), expand(secret, b"iv", 12)

    def seal(self, kind, body, padding=0):
        """One record with this content."""
        number = struct.pack(">Q", self.sequence)
        self.sequence += 1
        if self.version == ssl.TLSVersion.TLSv1_3:
            inner = body + (bytes([kind]) if kind is not None else b"") + bytes(padding)
            header = struct.pack(">BHH", DATA, 0x0303, len(inner) + 16)
            nonce = bytes(a ^ b for a, b in zip(self.iv, bytes(4) + number))
            return header + self.gcm.seal(nonce, header, inner)
        extra = number + struct.pack(">BHH", kind, 0x0303, len(body))
        sealed = number + self.gcm.seal(self.iv + number, extra, body)
        return struct.pack(">BHH", kind, 0x0303, len(sealed)) + sealed

    def send(self, kind, body, padding=0):
        self.sock.sendall(self.seal(kind, body, padding))

    def update(self, ask):
        """A KeyUpdate, and the next keys."""
        wire = self.seal(HANDSHAKE, KEY_UPDATE + bytes([ask]))
        self.change(expand(self.secret, b"traffic upd", 32))
        return wire

    def receive(self):
        """What the server says next, decrypted."""
        while True:
            try:
                text = self.client.read(65536)
                if not text:
                    raise EOFError("close_notify")
                return text
            except ssl.SSLWantReadError:
                more = self.sock.recv(65536)
                if not more:
                    raise EOFError("the end")
                self.incoming.write(more)

    def answers(self):
        """Whether it is still served: NOOP has its 200."""
        self.send(DATA, b"NOOP\r\n")
        text = b""
        while b"200 " not in text:
            text += self.receive()


def inside(most):
    """Each oddity: its name, and what to send."""
    many = max(most, 10)
    yield "KeyUpdate", lambda it: b"".join(it.update(0) for _ in range(many))
    yield "KeyUpdate asking back", lambda it: b"".join(it.update(1) for _ in range(many))
    yield "no bytes", lambda it: b"".join(it.seal(DATA, b"") for _ in range(many))
    yield "no bytes and padding", lambda it: b"".join(it.seal(DATA, b"", 16000) for _ in range(many // 20))
    yield "warnings", lambda it: b"".join(it.seal(ALERT, b"\1\x5a") for _ in range(many))
    yield "no_renegotiation", lambda it: b"".join(it.seal(ALERT, b"\1\x64") for _ in range(many))
    yield "a fatal alert", lambda it: it.seal(ALERT, b"\2\x28")
    yield "half an alert", lambda it: it.seal(ALERT, b"\1")
    yield "renegotiation", lambda it: it.seal(HANDSHAKE, hello()[5:])
    yield "renegotiations", lambda it: b"".join(it.seal(HANDSHAKE, hello()[5:]) for _ in range(many // 20))
    yield "HelloRequest", lambda it: it.seal(HANDSHAKE, b"\0\0\0\0")
    yield "NewSessionTicket", lambda it: it.seal(HANDSHAKE, b"\4\0\0\x10" + bytes(16))
    yield "CertificateRequest", lambda it: it.seal(HANDSHAKE, b"\x0d\0\0\3\0\0\0")
    yield "Finished", lambda it: it.seal(HANDSHAKE, b"\x14\0\0\x20" + bytes(32))
    yield "no bytes of a handshake", lambda it: b"".join(it.seal(HANDSHAKE, b"") for _ in range(many))
    yield "a message of 16 MiB", lambda it: b"".join([it.seal(HANDSHAKE, b"\x18\xff\xff\xff" + bytes(16000))] + [
        it.seal(HANDSHAKE, bytes(16000)) for _ in range(40)])
    yield "unknown content type", lambda it: it.seal(99, b"x")
    yield "heartbeat", lambda it: it.seal(HEARTBEAT, b"\1\x40\0")
    yield "no content type", lambda it: it.seal(None, bytes(1000))
    yield "2^14 + 1 bytes", lambda it: it.seal(DATA, bytes(16385))
    yield "ChangeCipherSpec", lambda it: record(CHANGE, b"\1") * many
    yield "a forged record", lambda it: record(DATA, os.urandom(100))
    yield "a forged close_notify", lambda it: record(ALERT, b"\1\0")
    yield "one bit wrong", lambda it: (sealed := it.seal(DATA, b"NOOP\r\n"))[:-1] + bytes([sealed[-1] ^ 1])
    yield "twice the same", lambda it: it.seal(DATA, b"NOOP\r\n") * 2
    yield "one byte to a record", lambda it: b"".join(it.seal(DATA, b"x") for _ in range(many)) + it.seal(DATA, b"\r\n")


def try_inside(server, pressure, version, count):
    survived, ended, lock, items = [], [], threading.Lock(), list(inside(count(10_000)))

    # Some are of TLS 1.3 alone.
    old = {"KeyUpdate", "KeyUpdate asking back", "no bytes and padding", "no content type"}
    items = [it for it in items if version == ssl.TLSVersion.TLSv1_3 or it[0] not in old]

    def send(item):
        number, (name, make) = item
        source = f"127.5.2.{number % 6 + 1}"
        insider = Insider(server, source, version, logged_in=number % 2)
        try:
            wire = make(insider)
            insider.sock.settimeout(30)
            insider.sock.sendall(wire)
            insider.answers()
            with lock:
                survived.append(name)
        except (EOFError, ConnectionError, ssl.SSLError):
            with lock:
                ended.append(name)
        except TimeoutError:
            raise Failure(f"{name}: neither an answer nor an end") from None
        finally:
            insider.sock.close()
        pressure.on()

    all_of(send, enumerate(items), 4)
    forbidden = {"renegotiation", "renegotiations", "unknown content type", "2^14 + 1 bytes", "a forged record",
                 "one bit wrong", "twice the same", "a message of 16 MiB", "a fatal alert", "Finished"}
    if forbidden & set(survived):
        raise Failure(f"the session survived {forbidden & set(survived)}")
    return survived, ended


@attack("odd-records")
def odd_records(server, pressure, count):
    survived, ended = [], []
    for version in [ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2]:
        lived, died = try_inside(server, pressure, version, count)
        survived += lived
        ended += died
    return (f"{len(survived) + len(ended)} oddities inside TLS 1.3 and 1.2, renegotiation and {count(10_000)} KeyUpdates"
            f" among them: {len(ended)} ended the session, harmless: {', '.join(sorted(set(survived)))}")
