"""A server made to look far away: a TCP proxy on loopback that delays and meters what it carries.

Half of the latency is added in each direction, to bytes and to the stream's end alike: what is sent
one behind the other arrives one behind the other, so a pipelined request waits no longer than the
first. A piece leaves when its last byte would have come over a line of the given rate. A connection
is there at once: the round trip of a handshake is not added.

The proxy is a process of its own with one thread, and ends with its standard input. splice(2) moves
the bytes from socket to socket through a pipe, which holds what is under way: 0.27 CPU
seconds a GiB for 16 connections of 100 MB/s, where recv_into and send take 0.49. One epoll set
wakes the loop for sockets found empty or full, a heap of times for everything else.
"""

from __future__ import annotations

import fcntl
import heapq
import math
import os
import resource
import select
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

_PIECE_S = 0.002
"""Seconds of the line that are moved at once."""
_LEAST_PIECE = 16 * 1024
_LARGEST_PIECE = 1024 * 1024
_GATHER_S = 0.0005
"""A line that has just brought something is looked at again so much later, not packet by packet."""
_LEAST_PIPE = 1024 * 1024
"""Every user may have as much."""
_LARGEST_PIPE = 64 * 1024 * 1024
_END = 0
_RESET = -1
"""Ends of a stream, where a number of bytes stands otherwise."""
_MODE = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
_FALLEN = select.EPOLLHUP | select.EPOLLERR


@contextmanager
def distant(address: tuple[str, int], latency: float, rate: float) -> Iterator[tuple[str, int]]:
    """Yield the (host, port) where the server at `address` answers as if it were far away.

    A request takes `latency` seconds longer; a connection carries at most `rate` bytes a second in
    each direction (`math.inf`: as many as come). Leaving ends the proxy and its connections.
    """
    words = [*address, float(latency), float(rate)]
    process = subprocess.Popen(
        [sys.executable, "-I", __file__, *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # a Ctrl-C at the benchmark's terminal is for the benchmark alone
    )
    with process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline()
            if not port:
                raise RuntimeError(f"no proxy to {address} has started")
            yield "127.0.0.1", int(port)
        finally:
            process.kill()


class _Line(NamedTuple):
    """What all ways have in common."""

    delay: float
    """Seconds in one direction."""
    rate: float

    @property
    def piece(self) -> int:
        """Bytes moved at once."""
        return int(min(max(self.rate * _PIECE_S, _LEAST_PIECE), _LARGEST_PIECE))

    @property
    def pipe(self) -> int:
        """Bytes a pipe must hold: twice what can be under way, since not every page is full."""
        under_way = self.rate * (self.delay + 2 * _PIECE_S)
        return int(min(max(2 * under_way, _LEAST_PIPE), _LARGEST_PIPE))


class _Way:
    """One direction of a connection: from `source` through the pipe to `sink`."""

    __slots__ = (
        *("_busy_until", "_delay", "_drain", "_fill", "_full", "_look_at", "_piece", "_rate"),
        *("_sink", "_source", "_under_way", "blocked", "done", "ended", "starved", "wake_at"),
        "woken",
    )

    def __init__(self, source: socket.socket, sink: socket.socket, line: _Line) -> None:
        self._source = source.fileno()
        self._sink = sink
        self._delay, self._rate = line
        self._piece = line.piece
        self._drain, self._fill = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        _enlarge(self._fill, line.pipe)
        self._under_way: deque[tuple[float, int]] = deque()
        """(when it is there, bytes)"""
        self._busy_until = 0.0
        self._look_at = 0.0
        self._full = False
        self.starved = False
        """Whether the source was found empty: to be woken when there is something."""
        self.woken = False
        self.blocked = False
        """Whether the sink took no more."""
        self.ended = False
        self.done = False
        """Whether the sink has been told the end."""
        self.wake_at = math.inf

    def step(self) -> float:
        """Deliver what is there and collect what has come; return when to do so again.

        Raises OSError when the source has fallen, its last bytes delivered, or the sink has.
        """
        under_way = self._under_way
        if under_way and not self.blocked:
            self._deliver(time.monotonic())
        if not (self.ended or self.starved or self._full) and time.monotonic() >= self._look_at:
            self._collect()
        next_step = under_way[0][0] if under_way and not self.blocked else math.inf
        if self.ended or self.starved or self._full:
            return next_step
        return min(next_step, self._look_at)

    def _deliver(self, now: float) -> None:
        under_way = self._under_way
        count = 0
        while under_way and under_way[0][0] <= now and under_way[0][1] > 0:
            count += under_way.popleft()[1]
        if count:
            try:
                moved = os.splice(self._drain, self._sink.fileno(), count, flags=_MODE)
            except BlockingIOError:
                moved = 0
            if moved < count:
                under_way.appendleft((now, count - moved))
                self.blocked = True
                return
            self._full = False
        if under_way and under_way[0][0] <= now:
            if under_way.popleft()[1] == _RESET:
                raise ConnectionResetError
            self._sink.shutdown(socket.SHUT_WR)
            self.done = True

    def _collect(self) -> None:
        woken, self.woken = self.woken, False
        try:
            count = os.splice(self._source, self._fill, self._piece, flags=_MODE)
        except BlockingIOError:
            # Nothing has come, or it has and the pipe is full: then delivering makes room.
            self._full = woken and bool(self._under_way)
            self.starved = not self._full
            return
        except OSError:
            count = _RESET
        now = time.monotonic()
        begun = max(self._busy_until, now)
        if count <= 0:
            self.ended = True
            self._under_way.append((begun + self._delay, count))
            return
        self._busy_until = begun + count / self._rate
        self._under_way.append((self._busy_until + self._delay, count))
        self._look_at = self._busy_until - _PIECE_S
        if count < self._piece:
            self._look_at = max(self._look_at, now + _GATHER_S)

    def close(self) -> None:
        os.close(self._drain)
        os.close(self._fill)


class _Connection:
    """A client's socket, the server's, and the two ways between them."""

    __slots__ = ("_armed", "_client", "_epoll", "_server", "away", "closed", "home")

    def __init__(
        self, client: socket.socket, address: tuple[str, int], line: _Line, epoll: select.epoll
    ) -> None:
        self._client = client
        self._server = socket.socket()
        self._epoll = epoll
        for each in (client, self._server):
            each.setblocking(False)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._server.connect_ex(address)  # a refusal is told when the socket is used
        self.away = _Way(client, self._server, line)
        self.home = _Way(self._server, client, line)
        self._armed = {client.fileno(): 0, self._server.fileno(): 0}
        self.closed = False
        for descriptor in self._armed:
            epoll.register(descriptor, 0)

    @property
    def descriptors(self) -> tuple[int, ...]:
        return tuple(self._armed)

    def told(self, descriptor: int, mask: int) -> list[_Way]:
        """Return the ways that can go on since epoll has told `mask` of one of the sockets."""
        self._armed[descriptor] = 0
        is_client = descriptor == self._client.fileno()
        outgoing, incoming = (self.away, self.home) if is_client else (self.home, self.away)
        ready = []
        if outgoing.starved and mask & (select.EPOLLIN | _FALLEN):
            outgoing.starved, outgoing.woken = False, True
            ready.append(outgoing)
        if incoming.blocked and mask & (select.EPOLLOUT | _FALLEN):
            incoming.blocked = False
            ready.append(incoming)
        return ready

    def arm(self) -> None:
        """Have epoll tell, once, what the ways wait for."""
        for each, outgoing, incoming in (
            (self._client, self.away, self.home),
            (self._server, self.home, self.away),
        ):
            wanted = select.EPOLLIN if outgoing.starved else 0
            if incoming.blocked:
                wanted |= select.EPOLLOUT
            if wanted & ~self._armed[each.fileno()]:
                self._epoll.modify(each, wanted | select.EPOLLONESHOT)
                self._armed[each.fileno()] = wanted

    def close(self, *, reset: bool = False) -> None:
        """Close both sockets, so that both sides see a reset if it was not the end."""
        self.closed = True
        for each in (self._client, self._server):
            if reset:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            each.close()
        self.away.close()
        self.home.close()


class _Proxy:
    """The loop."""

    def __init__(self, address: tuple[str, int], line: _Line) -> None:
        self._address = address
        self._line = line
        self._epoll = select.epoll()
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._listening.setblocking(False)
        self._connections: dict[int, _Connection] = {}
        """By each of their descriptors."""
        self._agenda: list[tuple[float, int, _Connection, _Way]] = []
        self._noted = 0
        self.port: int = self._listening.getsockname()[1]

    def run(self, lifeline: int) -> None:
        """Carry until `lifeline` can be read."""
        self._epoll.register(self._listening, select.EPOLLIN)
        self._epoll.register(lifeline, select.EPOLLIN)
        while True:
            for descriptor, mask in self._wait():
                connection = self._connections.get(descriptor)
                if connection is not None:
                    for way in connection.told(descriptor, mask):
                        self._step(connection, way)
                    if not connection.closed:
                        connection.arm()
                elif descriptor == lifeline:
                    return
                elif descriptor == self._listening.fileno():
                    self._accept()
            now = time.monotonic()
            while self._agenda and self._agenda[0][0] <= now:
                when, _, connection, way = heapq.heappop(self._agenda)
                if when == way.wake_at and not connection.closed:
                    way.wake_at = math.inf
                    self._step(connection, way)
                    if not connection.closed:
                        connection.arm()

    def _wait(self) -> list[tuple[int, int]]:
        if not self._agenda:
            return self._epoll.poll()
        pause = self._agenda[0][0] - time.monotonic()
        # Python's epoll knows whole milliseconds only, and rounds them up.
        if pause > 0 and not select.select((self._epoll,), (), (), pause)[0]:
            return []
        return self._epoll.poll(0)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except BlockingIOError:
                return
            connection = _Connection(client, self._address, self._line, self._epoll)
            for descriptor in connection.descriptors:
                self._connections[descriptor] = connection
            for way in (connection.away, connection.home):
                self._step(connection, way)
            if not connection.closed:
                connection.arm()

    def _step(self, connection: _Connection, way: _Way) -> None:
        if connection.closed:
            return
        try:
            when = way.step()
        except OSError:
            self._close(connection, reset=True)
            return
        if connection.away.done and connection.home.done:
            self._close(connection)
        elif when < way.wake_at:
            way.wake_at = when
            self._noted += 1
            heapq.heappush(self._agenda, (when, self._noted, connection, way))

    def _close(self, connection: _Connection, *, reset: bool = False) -> None:
        for descriptor in connection.descriptors:
            del self._connections[descriptor]
        connection.close(reset=reset)


def _enlarge(pipe: int, size: int) -> None:
    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, size)
    except PermissionError:  # not root
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _LEAST_PIPE)


def _main() -> None:
    host, port, latency, rate = sys.argv[1:]
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # six a connection
    proxy = _Proxy((host, int(port)), _Line(float(latency) / 2, float(rate)))
    print(proxy.port, flush=True)
    proxy.run(sys.stdin.fileno())


if __name__ == "__main__":
    _main()
