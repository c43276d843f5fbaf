"""HTTP/1.1 to one server: keep-alive connections, exact framing, nothing else.

This is the data path, so a request costs three or four system calls and a body is
copied once, from the kernel into the caller's buffer. One `Transport` serves any
number of threads: a connection belongs to the thread that took it out of the idle
pool until the reply's body has been consumed; only then does it go back. A
connection whose framing is in any doubt is closed, never reused.

A connection that has been idle may have been closed by the server just as the
request went out. Such a request is sent once more, on a fresh connection, when not
one byte of a reply came and its caller said that doing it twice does no harm
(`replay`). There are no other retries here, and no redirects.

Failures are `store.errors`: Unavailable, Truncated, DeadlineExceeded; a message
names the server, never a header.
"""

from __future__ import annotations

import base64
import re
import socket
import ssl
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from ossfs.store.api import Buffer, GetReply
from ossfs.store.connection import Connection, Limits, NoReply
from ossfs.store.errors import DeadlineExceeded, Invalid, StoreError, Truncated, Unavailable
from ossfs.store.exchange import Exchange, Unsuited
from ossfs.store.resolver import Resolver

MAX_BODY = 64 * 1024 * 1024
"""Bytes of a reply that is read whole; a listing of 1,000 long keys has 4 MiB."""
_DRAIN = 64 * 1024
"""Unread bytes worth receiving to keep a connection."""
_PEEK_FROM = 32 * 1024
"""Expected body size from which the head is peeked at."""
_CHECK_AFTER = 0.5
"""Seconds of idleness after which a connection is checked before it is used."""
_MAX_IDLE_CONNECTIONS = 256
_BODYLESS = (204, 304)
_HEADER = re.compile(r"\r\n([^\x00-\x20\x7f:]+):[ \t]*((?:[^\r\n]*[^\r\n \t])?)[ \t]*(?=\r\n|\Z)")
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}")


class Origin(NamedTuple):
    """Where a server is."""

    scheme: str
    host: str
    """Name or address, IPv6 without brackets."""
    port: int

    @property
    def authority(self) -> str:
        """As the Host header has it: with brackets, without the scheme's own port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (
            host
            if self.port == (443 if self.scheme == "https" else 80)
            else (f"{host}:{self.port}")
        )


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy; its password shows neither in repr nor in messages."""

    host: str
    port: int
    authorization: bytes

    @staticmethod
    def parse(url: str) -> Proxy | None:
        """Read `http://[user:password@]host:port`; None where it is empty."""
        if not url:
            return None
        parts = urlsplit(url if "://" in url else f"http://{url}")
        try:
            port = parts.port or 3128
        except ValueError:
            raise Invalid("the proxy's port is not a number from 1 to 65535") from None
        if parts.scheme != "http" or not parts.hostname:
            raise Invalid("a proxy is given as http://[user:password@]host:port")
        header = b""
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            header = b"Proxy-Authorization: Basic " + base64.b64encode(pair) + b"\r\n"
        return Proxy(parts.hostname, port, header)

    def __repr__(self) -> str:
        return f"Proxy({self.host}:{self.port})"


class Headers(Mapping[str, str]):
    """A reply's headers, found by name in any case."""

    __slots__ = ("_by_name",)

    def __init__(self, by_name: dict[str, str]) -> None:
        """Take over `by_name`, whose names are in lower case."""
        self._by_name = by_name

    def __getitem__(self, name: str) -> str:
        return self._by_name[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)


class Reply:
    """A reply whose body has not been read yet; read it or close it, in one thread."""

    __slots__ = (
        "_chunked",
        "_connection",
        "_keep",
        "_left",
        "_limits",
        "_transport",
        "headers",
        "length",
        "status",
    )

    def __init__(
        self,
        transport: Transport,
        connection: Connection,
        limits: Limits,
        method: str,
        status: int,
        headers: Headers,
        keep: bool,
    ) -> None:
        self.status = status
        self.headers = headers
        self.length: int | None = None
        """Bytes of the body; None where only its end will tell."""
        self._transport = transport
        self._connection: Connection | None = connection
        self._limits = limits
        self._keep = keep
        self._chunked = False
        self._left = 0
        """Bytes still to come of the body, or of the current chunk."""
        if method == "HEAD" or status in _BODYLESS:
            self.length = 0
        elif "transfer-encoding" in headers:
            if headers["transfer-encoding"].lower() != "chunked":
                raise Unavailable("the reply has an unknown transfer encoding")
            self._chunked = True
        elif "content-length" in headers:
            text = headers["content-length"]
            if not (text.isascii() and text.isdigit()):
                raise Unavailable("the reply's Content-Length is not a number")
            self.length = self._left = int(text)
        else:
            self._keep = False
        if self.length == 0:
            self._release()

    def read(self, limit: int = MAX_BODY) -> bytes:
        """Return the whole body; Unavailable where it is over `limit` bytes."""
        if self._connection is None:
            return b""
        if self.length is not None:
            if self.length > limit:
                self.close()
                raise Unavailable(f"the reply has {self.length} bytes, over {limit}")
            whole = bytearray(self.length)
            self.fill([memoryview(whole)])
            return bytes(whole)
        pieces: list[bytes] = []
        size = 0
        piece = memoryview(bytearray(_DRAIN))
        try:
            while got := self._some(piece):
                size += got
                if size > limit:
                    raise Unavailable(f"the reply is over {limit} bytes")
                pieces.append(bytes(piece[:got]))
        except BaseException:
            self.close()
            raise
        self._release()
        return b"".join(pieces)

    def fill(
        self, buffers: Sequence[memoryview], on_filled: Callable[[int], None] | None = None
    ) -> None:
        """Receive the body into `buffers`, which it must fill exactly.

        Raises Truncated when it ends early. When this raises, the connection is closed and no
        buffer is touched again.
        """
        try:
            for index, buffer in enumerate(buffers):
                got, size = 0, len(buffer)
                while got < size:
                    arrived = self._some(buffer[got:] if got else buffer)
                    if not arrived:
                        raise Truncated(f"the reply ended {size - got} bytes early")
                    got += arrived
                if on_filled is not None:
                    on_filled(index)
            if self._chunked or self.length is None:
                if self._some(memoryview(bytearray(1))):
                    raise Unavailable("the reply is longer than it should be")
            elif self._left:
                raise Unavailable("the reply is longer than it should be")
        except BaseException:
            self.close()
            raise
        self._release()

    def close(self) -> None:
        """Drop the rest of the body, and the connection with it unless the rest is small."""
        connection = self._connection
        if connection is not None:
            self._connection = None
            connection.close()

    def discard(self) -> None:
        """Receive and forget a small rest so that the connection can be used again."""
        if self._connection is None:
            return
        if self.length is None or self._left > _DRAIN:
            self.close()
            return
        try:
            self.fill([memoryview(bytearray(self._left))])
        except StoreError:
            self.close()

    def _some(self, view: memoryview) -> int:
        """Receive into `view` from the body; 0 at its end. Short only where a chunk ends."""
        connection = self._connection
        if connection is None:
            return 0
        try:
            if self._chunked:
                return self._some_of_chunk(connection, view)
            if self.length is None:
                return connection.fill(view, self._limits)
            if self._left < len(view):
                view = view[: self._left]
            got = connection.fill(view, self._limits) if view else 0
        except OSError as error:
            raise Unavailable(
                f"the connection to {self._transport.name} was lost: {error.strerror or error}"
            ) from error
        self._left -= got
        return got

    def _some_of_chunk(self, connection: Connection, view: memoryview) -> int:
        if self._left < 0:
            return 0
        if not self._left:
            line = connection.read_line(self._limits).split(b";")[0].strip()
            # int() alone would also take a sign, blanks and underscores.
            if not _CHUNK_SIZE.fullmatch(line):
                raise Unavailable("the reply has a malformed chunk")
            self._left = int(line, 16)
            if not self._left:
                while connection.read_line(self._limits):
                    pass
                self._left = -1
                return 0
        got = connection.fill(view[: self._left], self._limits)
        if not got:
            raise Truncated("the reply ended within a chunk")
        self._left -= got
        if not self._left and connection.read_line(self._limits):
            raise Unavailable("the reply has a malformed chunk")
        return got

    def _release(self) -> None:
        connection = self._connection
        if connection is not None:
            self._connection = None
            if self._keep:
                self._transport.put_back(connection)
            else:
                connection.close()


class Transport:
    """Requests to one origin, directly or through a proxy."""

    max_idle = 30.0
    """Seconds a connection is kept unused; OSS closes idle ones after a minute or so."""

    def __init__(
        self,
        origin: Origin,
        *,
        connect_timeout: float = 3.0,
        read_timeout: float = 20.0,
        proxy: str = "",
        user_agent: str = "ossfs",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._origin = origin
        self._proxy = Proxy.parse(proxy)
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        near = self._proxy or origin
        self._resolver = Resolver(near.host, near.port)
        self._tls = tls
        if origin.scheme == "https" and tls is None:
            self._tls = ssl.create_default_context()
        self._idle: deque[Connection] = deque()
        self._all: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._closed = False
        self._fixed = f"Host: {origin.authority}\r\nUser-Agent: {user_agent}\r\n".encode()
        self._target_prefix = ""
        if self._proxy and origin.scheme == "http":
            self._target_prefix = f"http://{origin.authority}"
            self._fixed += self._proxy.authorization
        self.name = origin.authority
        """The server as messages name it."""

    def request(
        self,
        method: str,
        target: str,
        headers: bytes = b"",
        body: Sequence[Buffer] | None = None,
        *,
        deadline: float,
        silence: float | None = None,
        expect: int = 0,
        replay: bool = False,
        while_waiting: Callable[[], None] | None = None,
    ) -> Reply:
        """Send a request and return its reply, the body still to be read.

        `target` is the encoded path and query; `headers` complete lines with their CRLF;
        `silence` how long the server may be quiet, where not the read timeout; `expect` the size
        of the body looked for; `replay` allows a second sending when a kept connection turns out
        to be dead. `while_waiting` is called between sending and receiving.
        """
        limits = Limits(deadline, self._read_timeout if silence is None else silence)
        head = self._head(method, target, headers)
        pieces: list[Buffer]
        if body is not None:
            size = sum(len(memoryview(piece).cast("B")) for piece in body)
            pieces = [head + b"Content-Length: %d\r\n\r\n" % size, *body]
        else:
            pieces = [head + b"\r\n"]
        connection = self._take(limits, certain=not replay)
        fresh = not connection.used
        while True:
            try:
                return self._exchange(connection, method, pieces, limits, expect, while_waiting)
            except NoReply as error:
                connection.close()
                if fresh or not replay:
                    raise Unavailable(f"{self.name} gave no reply: {error}") from error
            except OSError as error:
                connection.close()
                raise Unavailable(
                    f"the connection to {self.name} was lost: {error.strerror or error}"
                ) from error
            except BaseException:
                connection.close()
                raise
            connection = self._connect(limits)
            fresh = True

    def begin(
        self,
        target: str,
        headers: bytes,
        check: Callable[[int, Headers, int], GetReply],
    ) -> Exchange | None:
        """Send a GET over an idle connection without blocking; None where that cannot be done.

        `check(status, headers, size)` judges the reply for a body of `size` bytes.
        """
        if self._tls is not None:
            return None
        connection = self._take_idle(time.monotonic(), certain=False)
        if connection is None:
            return None
        try:
            sent = connection.send_now(self._head("GET", target, headers) + b"\r\n")
        except OSError:
            sent = False
        if not sent:
            connection.close()
            return None

        def judge(head: bytes, size: int) -> GetReply:
            status, reply_headers, keep = _parse_head(head)
            if not keep or "transfer-encoding" in reply_headers:
                raise Unsuited("not a plain reply")
            return check(status, reply_headers, size)

        return Exchange(connection, judge, self.put_back)

    def close(self) -> None:
        """Close the idle connections and break off those in use, whose calls fail at once."""
        self._closed = True
        for connection in list(self._all):
            connection.abort()
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:
                return

    def put_back(self, connection: Connection) -> None:
        """Take over a connection whose reply has been read to its end."""
        if self._closed or len(self._idle) >= _MAX_IDLE_CONNECTIONS:
            connection.close()
            return
        now = time.monotonic()
        connection.idle_since = now
        connection.used = True
        self._idle.append(connection)
        # The oldest are at the left; another thread may take one in between, hence the loop's
        # second look at what it got.
        while self._idle and self._idle[0].idle_since < now - self.max_idle:
            try:
                oldest = self._idle.popleft()
            except IndexError:
                return
            if oldest.idle_since < now - self.max_idle:
                oldest.close()
            else:
                self._idle.append(oldest)

    def _take(self, limits: Limits, *, certain: bool) -> Connection:
        """Return an idle connection that seems alive, else a new one.

        `certain` checks it however short its rest was, since the request cannot be sent twice.
        """
        connection = self._take_idle(time.monotonic(), certain=certain)
        return connection if connection is not None else self._connect(limits)

    def _take_idle(self, now: float, *, certain: bool) -> Connection | None:
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:
                break
            idle = now - connection.idle_since
            if idle > self.max_idle or ((certain or idle > _CHECK_AFTER) and connection.is_spent()):
                connection.close()
                continue
            return connection
        return None

    def _head(self, method: str, target: str, headers: bytes) -> bytes:
        line = f"{method} {self._target_prefix}{target} HTTP/1.1\r\n"
        return line.encode() + self._fixed + headers

    def _exchange(
        self,
        connection: Connection,
        method: str,
        pieces: Sequence[Buffer],
        limits: Limits,
        expect: int,
        while_waiting: Callable[[], None] | None,
    ) -> Reply:
        refused: OSError | None = None
        try:
            connection.send(pieces, limits)
        except ConnectionError as error:
            # A server that refuses an upload answers and hangs up while we still send: its
            # answer is worth more than the broken pipe.
            refused = error
        if while_waiting is not None and refused is None:
            while_waiting()
        while True:
            try:
                head = connection.read_head(limits, peek=expect >= _PEEK_FROM)
            except NoReply:
                raise
            except OSError:
                if refused is not None:
                    raise refused from None
                raise
            status, headers, keep = _parse_head(head)
            if status >= 200:
                break
            if status == 101:
                raise Unavailable("the server switches protocols unasked")
        return Reply(self, connection, limits, method, status, headers, keep and refused is None)

    def _connect(self, limits: Limits) -> Connection:
        """Return a new connection, through the proxy and TLS where they are asked for."""
        connection = self._connected(limits)
        self._all.add(connection)
        if self._closed:
            connection.abort()
        return connection

    def _connected(self, limits: Limits) -> Connection:
        deadline = min(limits.deadline, time.monotonic() + self._connect_timeout)
        try:
            raw = self._connect_socket(deadline)
            try:
                if self._tls is None:
                    return Connection(raw)
                if self._proxy:
                    self._tunnel(raw, deadline)
                raw.settimeout(max(0.001, deadline - time.monotonic()))
                return Connection(self._tls.wrap_socket(raw, server_hostname=self._origin.host))
            except BaseException:
                raw.close()
                raise
        except (TimeoutError, DeadlineExceeded):
            if time.monotonic() >= limits.deadline - 0.01:
                raise DeadlineExceeded(f"no connection to {self.name} in time") from None
            raise Unavailable(
                f"no connection to {self.name} within {self._connect_timeout:.3g} s"
            ) from None
        except ssl.SSLCertVerificationError as error:
            raise Unavailable(
                f"the certificate of {self.name} is not valid: {error.verify_message}"
            ) from error
        except OSError as error:
            raise Unavailable(
                f"cannot connect to {self.name}: {error.strerror or error}"
            ) from error

    def _connect_socket(self, deadline: float) -> socket.socket:
        """Try the server's addresses in turn, each with its share of the time left."""
        addresses = self._resolver.addresses(deadline)
        failure: OSError = TimeoutError()
        for tried, (family, address) in enumerate(addresses):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            connecting = socket.socket(family, socket.SOCK_STREAM)
            try:
                connecting.settimeout(left / (len(addresses) - tried))
                connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connecting.connect(address)
            except OSError as error:
                connecting.close()
                failure = error
                continue
            return connecting
        raise failure

    def _tunnel(self, raw: socket.socket, deadline: float) -> None:
        """Ask the proxy to connect us to the origin."""
        assert self._proxy is not None
        # Always with the port, unlike the Host header.
        host = f"[{self._origin.host}]" if ":" in self._origin.host else self._origin.host
        target = f"{host}:{self._origin.port}".encode()
        plain = Connection(raw)
        limits = Limits(deadline, self._connect_timeout)
        plain.send(
            [
                b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n" % (target, target)
                + self._proxy.authorization
                + b"\r\n"
            ],
            limits,
        )
        try:
            status, _, _ = _parse_head(plain.read_head(limits, peek=True))
        except NoReply as error:
            raise Unavailable(f"the proxy {self._proxy.host} closed the connection") from error
        if not 200 <= status < 300:
            raise Unavailable(f"the proxy {self._proxy.host} refuses to connect: {status}")


def _parse_head(head: bytes) -> tuple[int, Headers, bool]:
    """Return the status, the headers, and whether the connection may be used again."""
    text = head.decode("utf-8", "surrogateescape")
    line = text.partition("\r\n")[0]
    code = line[9:12]
    if not (line.startswith("HTTP/1.") and line[8:9] == " " and code.isdigit() and code.isascii()):
        raise Unavailable("the reply is not HTTP/1.1")
    pairs = _HEADER.findall(text)
    if len(pairs) != text.count("\r\n"):
        raise Unavailable("the reply has a malformed header")
    headers = {name.lower(): value for name, value in pairs}
    if len(headers) != len(pairs):
        headers = _joined(pairs)
    connection = headers.get("connection", "").lower()
    keep = "close" not in connection and (line[7] == "1" or "keep-alive" in connection)
    return int(code), Headers(headers), keep


def _joined(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """Join the values of headers that came more than once."""
    headers: dict[str, str] = {}
    for name, value in pairs:
        name = name.lower()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers
