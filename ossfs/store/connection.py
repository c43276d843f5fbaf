"""One keep-alive socket with deadlines: sends pieces, reads a head, fills buffers.

A connection is used by one thread at a time; the transport sees to that. Every
wait of the kernel is bounded by `Limits`: the absolute deadline of the call and
the longest silence that is still taken for a living server. Plain sockets stay
blocking and are bounded with SO_RCVTIMEO/SO_SNDTIMEO, because Python's own
timeouts make the socket non-blocking, which costs a poll for each recv and loses
MSG_WAITALL (0.37 against 0.30 CPU seconds a GiB). So do those below TLS, which is made in
memory (`store.encryption`). Within a large body the kernel is asked to wake us no sooner
than for BATCH bytes (SO_RCVLOWAT): half the wakes, a tenth of the CPU saved.

Bytes that were received but not yet asked for sit in the scratch buffer. Where
a large body follows, the head is peeked at and consumed exactly, so that the
body goes from the kernel straight to its page-aligned buffer.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from ossfs.store.api import Buffer
from ossfs.store.encryption import Encryption
from ossfs.store.errors import DeadlineExceeded, Silent, StoreError, Unavailable

MAX_HEAD = 64 * 1024
"""Bytes of status line and headers a reply may have; OSS allows 8 KiB of metadata."""
_SCRATCH = 8 * 1024
_PEEK = 2 * 1024
BATCH = 512 * 1024
"""Bytes to wait for at once where as many are sure to come: a MiB saves no more CPU."""
_SLACK = 0.02
"""Seconds a kernel timeout may be longer than needed before it is set anew."""
_IOV = 512
"""Pieces in one sendmsg; the kernel takes 1,024."""
_ENCRYPTED = 256 * 1024
"""Bytes of TLS received or sent at once, and kept in memory until they are decrypted."""
_ENCRYPTED_BATCH = 128 * 1024
"""BATCH of TLS: when as much is to follow, this is not here yet, _ENCRYPTED of it maybe being."""


class _Received(threading.local):
    """Where a thread receives what is decrypted at once: connections are many, threads few."""

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(_ENCRYPTED))


_received = _Received()


class Limits(NamedTuple):
    """How long a call may take."""

    deadline: float
    """Absolute, time.monotonic()."""
    silence: float
    """Seconds without a byte moving after which the server counts as gone."""


class NoReply(Exception):
    """The connection ended before the first byte of a reply."""


class Connection:
    """A connected socket; see the module's text for who may use it."""

    __slots__ = (
        "__weakref__",
        "_batching",
        "_encryption",
        "_end",
        "_poll",
        "_receive_timeout",
        "_scratch",
        "_send_timeout",
        "_socket",
        "_start",
        "idle_since",
        "used",
    )

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._encryption: Encryption | None = None
        self._scratch = bytearray(_SCRATCH)
        self._start = 0
        self._end = 0
        self._receive_timeout = -1.0
        self._send_timeout = -1.0
        self._batching = False
        self._poll: select.poll | None = None
        self.idle_since = 0.0
        self.used = False
        """Whether a reply has come over it already: only then can it be stale."""
        connected.settimeout(None)

    def encrypt(self, context: ssl.SSLContext, host: str, limits: Limits) -> None:
        """Speak TLS from here on; ssl.SSLError unless the server proves to be `host`."""
        encryption = Encryption(context, host)
        try:
            while not encryption.shake_hands():
                self._send_encrypted(encryption, limits)
                self._receive_encrypted(encryption, limits)
        except ssl.SSLError:
            with suppress(OSError, StoreError):
                self._send_encrypted(encryption, limits)  # the server is told why
            raise
        self._send_encrypted(encryption, limits)
        self._encryption = encryption

    def close(self) -> None:
        self._socket.close()

    def abort(self) -> None:
        """Wake whoever waits on it, in whatever thread: its call fails now."""
        # It may be closed already, or the server may have been quicker.
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def has_surplus(self) -> bool:
        """Whether more than the reply has been received: a next reply would begin in it."""
        if self._start != self._end:
            return True
        return self._encryption is not None and self._encryption.has_surplus

    def is_spent(self) -> bool:
        """Whether the server has closed an idle connection or sent what nobody asked for.

        Costs half a microsecond; peeking into the socket costs two.
        """
        poll = self._poll
        if poll is None:
            poll = self._poll = select.poll()
            poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))

    def send(self, pieces: Sequence[Buffer], limits: Limits) -> None:
        """Send all pieces without joining them."""
        views = [memoryview(piece).cast("B") for piece in pieces if len(piece)]
        encryption = self._encryption
        if encryption is None:
            self._send_all(views, limits)
            return
        for view in views:
            while view:
                encrypted = encryption.encrypt(view[: _ENCRYPTED - encryption.to_send])
                view = view[encrypted:]
                if not encrypted or encryption.to_send >= _ENCRYPTED:
                    self._send_encrypted(encryption, limits)
                if not encrypted:
                    self._receive_encrypted(encryption, limits)
        self._send_encrypted(encryption, limits)

    def fileno(self) -> int:
        """The socket's descriptor, for whoever waits without blocking."""
        return self._socket.fileno()

    def takes(self, size: int) -> bool:
        """Whether `send_now` will find room for so many bytes after what was sent before."""
        # The kernel counts what it keeps beside the bytes, too: half of the buffer is theirs.
        return size <= self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 2

    def send_now(self, pieces: Sequence[Buffer]) -> bool:
        """Send all pieces without blocking; False when they do not fit (then close it)."""
        if self._encryption is not None:
            for piece in pieces:
                if len(piece) and self._encryption.encrypt(piece) < len(piece):
                    return False
            pieces = [self._encryption.take()]
        try:
            sent = self._socket.sendmsg(pieces, (), socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        return sent == sum([len(piece) for piece in pieces])

    def receive_now(self, view: memoryview) -> int | None:
        """Receive what is there without blocking: 0 at the end of the stream, None for nothing."""
        encryption = self._encryption
        try:
            if encryption is None:
                return self._socket.recv_into(view, 0, socket.MSG_DONTWAIT)
            while (arrived := encryption.decrypt(view)) is None:
                room = _received.buffer
                encryption.received(room[: self._socket.recv_into(room, 0, socket.MSG_DONTWAIT)])
            return arrived
        except BlockingIOError:
            return None

    def receive_some_now(self) -> memoryview | None:
        """Receive some of what is there, as receive_now does; good until the next call."""
        view = memoryview(self._scratch)
        arrived = self.receive_now(view)
        return None if arrived is None else view[:arrived]

    def read_head(self, limits: Limits, *, peek: bool) -> bytes:
        """Return the status line and headers without the empty line; NoReply where nothing came.

        With `peek` no byte of the body is taken out of the kernel.
        """
        peek = peek and self._encryption is None
        searched = 0  # relative to the start, because the bytes may be moved for room
        while True:
            end = self._scratch.find(b"\r\n\r\n", self._start + max(0, searched - 3), self._end)
            if end >= 0:
                head = bytes(self._scratch[self._start : end])
                self._start = end + 4
                return head
            searched = self._end - self._start
            if self._end - self._start >= MAX_HEAD:
                raise Unavailable("the reply's headers are over 64 KiB")
            try:
                arrived = self._peek_head(limits) if peek else self._receive_more(limits)
            except ConnectionError as error:
                if self._start == self._end:
                    raise NoReply(error.strerror or "connection lost") from error
                raise
            if not arrived:
                if self._start == self._end:
                    raise NoReply("closed by the server")
                raise Unavailable("the connection ended within the reply's headers")

    def read_line(self, limits: Limits) -> bytes:
        """Return the next line of a chunked body without its CRLF."""
        searched = 0
        while True:
            end = self._scratch.find(b"\r\n", self._start + max(0, searched - 1), self._end)
            if end >= 0:
                line = bytes(self._scratch[self._start : end])
                self._start = end + 2
                return line
            searched = self._end - self._start
            if self._end - self._start > _SCRATCH:
                raise Unavailable("a line of the chunked reply is too long")
            if not self._receive_more(limits):
                raise Unavailable("the connection ended within a chunked reply")

    def fill(self, view: memoryview, limits: Limits, *, following: int = 0) -> int:
        """Receive into `view` until it is full or the stream ends; return the bytes received.

        At least `following` bytes are to come after these, and the caller fills on until none are.
        """
        size = len(view)
        if self._batching != (following >= BATCH):
            self._batch(following >= BATCH)
        got = min(size, self._end - self._start)
        if got:
            view[:got] = memoryview(self._scratch)[self._start : self._start + got]
            self._start += got
        while got < size:
            arrived = self._receive(view[got:] if got else view, socket.MSG_WAITALL, limits)
            if not arrived:
                break
            got += arrived
        return got

    def _batch(self, batching: bool) -> None:
        """Wake for BATCH bytes or for any: fewer than asked for would never wake us."""
        most = BATCH if self._encryption is None else _ENCRYPTED_BATCH
        low = most if batching else 1
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, low)
        self._batching = batching

    def _peek_head(self, limits: Limits) -> int:
        """Move what is there of the head, and nothing of the body, to the scratch buffer."""
        room = self._room(_PEEK)
        peeked = self._receive(room[:_PEEK], socket.MSG_PEEK, limits)
        end = self._scratch.find(b"\r\n\r\n", max(self._start, self._end - 3), self._end + peeked)
        if end >= 0:
            peeked = end + 4 - self._end
        taken = self._receive(room[:peeked], socket.MSG_WAITALL, limits) if peeked else 0
        self._end += taken
        return taken

    def _receive_more(self, limits: Limits) -> int:
        arrived = self._receive(self._room(_PEEK), 0, limits)
        self._end += arrived
        return arrived

    def _room(self, size: int) -> memoryview:
        """Return the free end of the scratch buffer, at least `size` bytes."""
        if self._start == self._end:
            self._start = self._end = 0
        if len(self._scratch) - self._end < size:
            pending = self._scratch[self._start : self._end]
            if len(self._scratch) - len(pending) < size:
                self._scratch = bytearray(2 * len(self._scratch))
            self._scratch[: len(pending)] = pending
            self._start, self._end = 0, len(pending)
        return memoryview(self._scratch)[self._end :]

    def _receive(self, view: memoryview, flags: int, limits: Limits) -> int:
        """Receive into `view`; 0 at the end of the stream. Of TLS as much as is there."""
        encryption = self._encryption
        if encryption is None:
            return self._receive_raw(view, flags, limits)
        while (arrived := encryption.decrypt(view)) is None:
            if encryption.to_send:
                self._send_encrypted(encryption, limits)  # new keys, say, are to be acknowledged
            self._receive_encrypted(encryption, limits)
        return arrived

    def _receive_encrypted(self, encryption: Encryption, limits: Limits) -> None:
        room = _received.buffer
        encryption.received(room[: self._receive_raw(room, 0, limits)])

    def _receive_raw(self, view: memoryview, flags: int, limits: Limits) -> int:
        seconds = _wait(limits)
        if not seconds <= self._receive_timeout <= seconds + _SLACK:
            self._receive_timeout = seconds
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(seconds))
        try:
            return self._socket.recv_into(view, 0, flags)
        except BlockingIOError:
            raise _late(limits, "the server is silent") from None

    def _send_encrypted(self, encryption: Encryption, limits: Limits) -> None:
        self._send_all([memoryview(encryption.take())], limits)

    def _send_all(self, views: list[memoryview], limits: Limits) -> None:
        first = 0
        while first < len(views):
            seconds = _wait(limits)
            if not seconds <= self._send_timeout <= seconds + _SLACK:
                self._send_timeout = seconds
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(seconds))
            try:
                sent = self._socket.sendmsg(views[first : first + _IOV])
            except BlockingIOError:
                raise _late(limits, "the server takes no more data") from None
            while first < len(views) and sent >= len(views[first]):
                sent -= len(views[first])
                first += 1
            if sent:
                views[first] = views[first][sent:]


def _wait(limits: Limits) -> float:
    """Return the seconds the next wait may take."""
    left = limits.deadline - time.monotonic()
    if left <= 0:
        raise DeadlineExceeded("no answer in time")
    return min(limits.silence, left)


def _timeval(seconds: float) -> bytes:
    # At least a millisecond: a timeval of zero means for ever.
    return struct.pack("@ll", *divmod(max(1_000, int(seconds * 1e6)), 1_000_000))


def _late(limits: Limits, what: str) -> DeadlineExceeded | Silent:
    """Say which of the two limits has run out; the kernel may wake a tick early."""
    if time.monotonic() >= limits.deadline - 0.01:
        return DeadlineExceeded(f"{what}: no answer in time")
    return Silent(f"{what} for {limits.silence:.3g} s")
