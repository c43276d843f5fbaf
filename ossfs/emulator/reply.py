"""What goes back, and the connection it goes through.

A handler returns a `Reply`; `Line` sends it past aiohttp's writer, straight to the socket: the
head with MSG_MORE, the body with sendfile from the object's files, never through Python. Files
are opened one after another, each when its turn comes. Only one reply of a connection is on its
way at a time, and nothing else writes to its socket.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ossfs.emulator.files import DataFiles, Lease

_TURN = 4 << 20
"""Bytes one reply may send before other connections get their turn."""

_MINIMUM_PACE = 16 * 1024


@dataclass(slots=True)
class Run:
    """A run of bytes in a data file."""

    files: DataFiles
    file: str
    offset: int
    size: int


@dataclass(slots=True)
class Reply:
    """Status, header lines and a body: bytes, or runs of files."""

    status: int
    headers: bytes = b""
    """Whole lines, each with its line end."""
    body: bytes = b""
    runs: Sequence[Run] = ()
    lease: Lease | None = None
    """Of the runs' files; released when the reply has left."""
    length: int | None = None
    """Content-Length where it is not the body's own: of a HEAD."""


class Line:
    """The sending side of one connection, and its count of both."""

    def __init__(self, transport: asyncio.Transport, rate: float) -> None:
        # A duplicate, because the loop lets nobody else watch a transport's own descriptor.
        original = transport.get_extra_info("socket")
        self._socket = socket.socket(fileno=os.dup(original.fileno()))
        self._socket.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._rate = rate
        self._due = 0.0
        self.sent = 0
        """Body bytes of the current reply that have left."""
        self.received = 0
        """Body bytes of the current request that were read."""

    def close(self) -> None:
        self._socket.close()

    async def _writable(self) -> None:
        ready = self._loop.create_future()
        descriptor = self._socket.fileno()
        if descriptor < 0:
            raise ConnectionResetError("connection lost")
        self._loop.add_writer(descriptor, _wake, ready)
        try:
            await ready
        finally:
            self._loop.remove_writer(descriptor)

    async def _write(self, data: bytes, flags: int = 0) -> None:
        try:
            done = self._socket.send(data, flags)
        except BlockingIOError:
            done = 0
        while done < len(data):
            await self._writable()
            try:
                done += self._socket.send(memoryview(data)[done:], flags)
            except BlockingIOError:
                continue

    async def pace(self, size: int) -> None:
        """Wait until `size` more bytes fit the connection's bandwidth, if it has one."""
        if not self._rate:
            return
        now = self._loop.time()
        self._due = max(self._due, now - 0.01) + size / self._rate
        if self._due > now:
            await asyncio.sleep(self._due - now)

    async def send(self, head: bytes, body: bytes) -> None:
        """Send a reply whose body is in memory."""
        self.sent = 0
        if self._rate and body:
            await self._write(head, socket.MSG_MORE)
            step = self._step()
            for start in range(0, len(body), step):
                piece = body[start : start + step]
                await self.pace(len(piece))
                await self._write(piece)
        else:
            await self._write(head + body if body else head)
        self.sent = len(body)

    def _step(self) -> int:
        return max(_MINIMUM_PACE, int(self._rate / 200))

    async def send_runs(
        self, head: bytes, runs: Sequence[Run], before_last: Callable[[], None] | None
    ) -> None:
        """Send a reply from files; `before_last` is called before its last byte leaves."""
        self.sent = 0
        await self._write(head, socket.MSG_MORE)
        last = len(runs) - 1
        for number, run in enumerate(runs):
            file = run.files.open(run.file)
            held = 1 if number == last and before_last is not None else 0
            await self._send_run(file.fd, run.offset, run.size - held)
            if held:
                assert before_last is not None
                before_last()
                await self._send_run(file.fd, run.offset + run.size - 1, 1)

    async def _send_run(self, fd: int, offset: int, size: int) -> None:
        turn = 0
        end = offset + size
        while offset < end:
            count = end - offset
            if self._rate:
                count = min(count, self._step())
                await self.pace(count)
            try:
                done = os.sendfile(self._socket.fileno(), fd, offset, count)
            except BlockingIOError:
                await self._writable()
                turn = 0
                continue
            if not done:
                raise ConnectionResetError("a data file is shorter than its object")
            offset += done
            self.sent += done
            turn += done
            if turn >= _TURN:
                await asyncio.sleep(0)
                turn = 0


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
