"""The board's disk: a drive with a cache that is lost when the power goes.

The emulator reaches it as a network block device. What the board writes stays in memory here until
the board flushes; then it goes to the image file, after a moment, as with a drive. `cut` is the end of
the power: a part of what was not flushed, any part, is on the medium by then, and the rest is not.
"""

import os
import random
import socket
import struct
import threading

BLOCK = 4096
MAGIC = 0x4E42444D41474943
OPTIONS = 0x49484156454F5054
OPTION_REPLY = 0x3E889045565A9
REQUEST = struct.Struct(">IHHQQI")
READ, WRITE, DISCONNECT, FLUSH = range(4)
FUA = 1


class PowerLost(Exception):
    """The drive answers nothing any more."""


class Disk:
    """One drive, for one emulator at a time."""

    def __init__(self, image, directory, slowest_flush=0.0):
        self.image = os.open(image, os.O_RDWR)
        self.size = os.fstat(self.image).st_size
        self.path = os.path.join(directory, "disk.socket")
        self.lock = threading.Lock()
        self.pending = {}
        self.dead = False
        self.flushes = 0
        self.slowest_flush = slowest_flush
        self.dice = random.Random(0)
        self.gone = threading.Event()
        self.listener = None
        self.connection = None
        self.thread = None

    def serve(self):
        """Wait for the next emulator, in a thread."""
        self.dead = False
        self.gone.clear()
        self.pending = {}
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(self.path)
        self.listener.listen(1)
        self.listener.settimeout(60)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def cut(self, seed, survives):
        """No power: of the blocks not flushed a share of `survives` is kept, the last one torn.
        Tells how many were lost."""
        with self.lock:
            self.dead = True
            self.gone.set()
            dice = random.Random(seed)
            lost = 0
            for number, data in self.pending.items():
                if dice.random() < survives:
                    # A power cut tears a block at a sector.
                    whole = BLOCK if dice.random() < 0.8 else 512 * dice.randrange(8)
                    os.pwrite(self.image, data[:whole], number * BLOCK)
                    lost += whole != BLOCK
                else:
                    lost += 1
            self.pending = {}
            return lost

    def stop(self):
        """After the emulator has ended; what it wrote and nobody cut is kept."""
        if self.connection is not None:
            try:
                self.connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        if self.thread is not None:
            self.thread.join(20)
        with self.lock:
            if not self.dead:
                self._flush()
        self.close_sockets()

    def close_sockets(self):
        """What serve() opened."""
        for each in (self.listener, self.connection):
            if each is not None:
                each.close()
        self.listener = self.connection = self.thread = None
        if os.path.exists(self.path):
            os.unlink(self.path)

    def _flush(self):
        for number, data in self.pending.items():
            os.pwrite(self.image, data, number * BLOCK)
        self.pending = {}
        self.flushes += 1

    def _run(self):
        try:
            self.connection, _ = self.listener.accept()
            self._greet()
            while True:
                self._answer()
        except (OSError, PowerLost, EOFError):
            pass

    def _take(self, length):
        data = bytearray()
        while len(data) < length:
            piece = self.connection.recv(min(length - len(data), 1 << 20))
            if not piece:
                raise EOFError
            data += piece
        return bytes(data)

    def _greet(self):
        self.connection.sendall(struct.pack(">QQH", MAGIC, OPTIONS, 3))
        self._take(4)
        while True:
            _, option, length = struct.unpack(">QII", self._take(16))
            self._take(length)

            def reply(kind, data=b"", option=option):
                self.connection.sendall(struct.pack(">QIII", OPTION_REPLY, option, kind, len(data)) + data)

            if option == 7:  # NBD_OPT_GO: size; it can flush, and force one write
                reply(3, struct.pack(">HQH", 0, self.size, 1 | 4 | 8))
                reply(1)
                return
            reply(0x80000001)  # NBD_REP_ERR_UNSUP

    def _answer(self):
        _, flags, kind, handle, offset, length = REQUEST.unpack(self._take(REQUEST.size))
        data = self._take(length) if kind == WRITE else b""
        out = b""
        if kind == FLUSH:
            # The power may go meanwhile.
            self.gone.wait(self.dice.uniform(0, self.slowest_flush))
        with self.lock:
            if self.dead or kind == DISCONNECT:
                raise PowerLost
            if kind == READ:
                out = self._read(offset, length)
            elif kind == WRITE:
                self._write(offset, data, flags & FUA)
            elif kind == FLUSH:
                self._flush()
        error = 0 if kind in (READ, WRITE, FLUSH) else 22
        self.connection.sendall(struct.pack(">IIQ", 0x67446698, error, handle) + out)

    def _block(self, number):
        found = self.pending.get(number)
        return os.pread(self.image, BLOCK, number * BLOCK) if found is None else found

    def _read(self, offset, length):
        first, last = offset // BLOCK, (offset + length - 1) // BLOCK
        if not self.pending:
            return os.pread(self.image, length, offset)
        data = b"".join(self._block(number) for number in range(first, last + 1))
        return data[offset - first * BLOCK:][:length]

    def _write(self, offset, data, through):
        done = 0
        while done < len(data):
            number, start = divmod(offset + done, BLOCK)
            piece = data[done:done + BLOCK - start]
            if len(piece) < BLOCK:
                old = self._block(number)
                piece = old[:start] + piece + old[start + len(piece):]
            if through:
                os.pwrite(self.image, piece, number * BLOCK)
                self.pending.pop(number, None)
            else:
                self.pending[number] = piece
            done += BLOCK - start
