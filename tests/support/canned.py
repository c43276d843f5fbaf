"""A server that answers from a script, to say what no sound server says.

A script is a list of steps for one connection; the n-th connection gets the n-th script. What the
script does not say the server does not do: after the last step it waits for the client to hang up.
"""

from __future__ import annotations

import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self, TypeAlias


class Step:
    """Something other than "read a request, send these bytes"."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


HANG_UP = Step("read a request, close without an answer")
SILENCE = Step("read a request, say nothing until the client leaves")
CLOSE = Step("close now")
RESET = Step("close now with a reset")

Script: TypeAlias = Sequence[bytes | Step | list[bytes | float] | Callable[[bytes], bytes]]
"""bytes: read a request and answer; a list: answer piece by piece, with pauses in seconds; a
callable: answer the request it is given."""


def reply(status: int, body: bytes = b"", *headers: str, length: int | None = None) -> bytes:
    """Compose a reply; `length` is a Content-Length that lies."""
    lines = [f"HTTP/1.1 {status} Canned", *headers]
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class CannedServer:
    """Listens on a free loopback port; use as a context manager."""

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None) -> None:
        self._scripts = list(scripts)
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []
        self.port: int = self._listener.getsockname()[1]
        self.requests: list[bytes] = []
        """Heads and bodies as they came, in order of arrival."""
        self.connections = 0
        self.peers: list[tuple[str, int]] = []
        """Where they came from."""
        self.closed = threading.Event()
        """Set when a script has closed its connection."""

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        accepting = threading.Thread(target=self._accept)
        self._threads.append(accepting)
        accepting.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        for connection in self._open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # it is closed already
        for thread in self._threads[1:]:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, peer = self._listener.accept()
            except OSError:
                return  # shut down
            script = (
                self._scripts[self.connections] if self.connections < len(self._scripts) else ()
            )
            self.connections += 1
            self.peers.append(peer)
            self._open.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection, script))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket, script: Script) -> None:
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            self._play(connection, script)
        except OSError:
            return  # the client has left, as some tests make it do
        finally:
            connection.close()
            self.closed.set()

    def _play(self, connection: socket.socket, script: Script) -> None:
        for step in script:
            if step is RESET:
                linger = struct.pack("ii", 1, 0)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                return
            if step is CLOSE:
                return
            request = self._read(connection)
            if not request:
                return
            self.requests.append(request)
            if step is HANG_UP:
                return
            if step is SILENCE:
                break
            if callable(step):
                connection.sendall(step(request))
            elif isinstance(step, list):
                for piece in step:
                    if isinstance(piece, float):
                        time.sleep(piece)
                    else:
                        connection.sendall(piece)
            else:
                assert isinstance(step, bytes)
                connection.sendall(step)
        while connection.recv(65536):
            pass

    @staticmethod
    def _read(connection: socket.socket) -> bytes:
        data = bytearray()
        while b"\r\n\r\n" not in data:
            more = connection.recv(65536)
            if not more:
                return b""
            data += more
        head_size = data.index(b"\r\n\r\n") + 4
        length = re.search(rb"\r\ncontent-length: *(\d+)", data[:head_size].lower())
        wanted = head_size + (int(length[1]) if length else 0)
        while len(data) < wanted:
            more = connection.recv(65536)
            if not more:
                return b""
            data += more
        return bytes(data)
