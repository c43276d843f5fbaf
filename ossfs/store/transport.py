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

Failures are `store.errors`: Unavailable, Silent, Truncated, DeadlineExceeded; a message names the
server, never a header.
"""

from __future__ import annotations

import base64
import errno
import socket
import ssl
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple, TypeVar
from urllib.parse import unquote, urlsplit

from ossfs.store.api import Buffer
from ossfs.store.connection import Connection, Limits, NoReply
from ossfs.store.errors import DeadlineExceeded, Invalid, Silent, Unavailable
from ossfs.store.exchange import Exchange, Verdict
from ossfs.store.reply import Headers, Reply, parse_head
from ossfs.store.resolver import Resolver, look_up, look_up_ipv4

T = TypeVar("T")

_PEEK_FROM = 32 * 1024
"""Expected body size from which the head is peeked at."""
_MAX_IDLE_CONNECTIONS = 256
_IP_BIND_ADDRESS_NO_PORT = 24
"""linux/in.h; Python has no name for it before 3.12."""


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
        bind: Sequence[str] = (),
        ipv6: bool = True,
        user_agent: str = "ossfs",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`bind` are local addresses that connections start from, in turn."""
        self._origin = origin
        self._proxy = Proxy.parse(proxy)
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        near = self._proxy or origin
        self._resolver = Resolver(near.host, near.port, look_up if ipv6 else look_up_ipv4)
        self._bind = tuple(bind)
        self._next_bind = count()
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
        pieces = self._pieces(method, target, headers, body)
        connection = self._take_idle() or self._connect(limits)
        while True:
            fresh = not connection.used
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
            except BaseException as error:
                connection.close()
                if not fresh and isinstance(error, Unavailable):
                    self._distrust(connection)
                raise
            connection = self._connect(limits)

    @property
    def at_hand(self) -> bool:
        """Whether a connection lies idle that `begin` might take: worth signing a request for."""
        return bool(self._idle)

    def begin(
        self,
        method: str,
        target: str,
        headers: bytes,
        judge: Callable[[int, Headers], Verdict[T]],
        body: Sequence[Buffer] | None = None,
        *,
        replay: bool = True,
    ) -> Exchange[T] | None:
        """Send a request over an idle connection without blocking; None where that cannot be done.

        `judge(status, headers)` says what is to be made of the reply. `replay`: see `request`.
        """
        connection = self._take_idle()
        if connection is None:
            return None
        pieces = self._pieces(method, target, headers, body)
        if body and not connection.takes(sum([len(piece) for piece in pieces])):
            self.put_back(connection)
            return None
        try:
            sent = connection.send_now(pieces)
        except OSError:
            sent = False
        if not sent:
            # Not done: no server acts on half a request, and none has read from a dead connection.
            connection.close()
            return None
        return Exchange(
            connection,
            judge,
            self.put_back,
            self._distrust,
            silence=self._read_timeout,
            changes=method not in ("GET", "HEAD"),
            replay=replay,
        )

    def close(self) -> None:
        """Close the idle connections and break off those in use, whose calls fail at once."""
        self._closed = True
        for connection in self._everyone():
            connection.abort()
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:
                return

    def _everyone(self) -> list[Connection]:
        """Return every connection there is; those to come see that we are closed."""
        while True:
            try:
                return list(self._all)
            except RuntimeError:
                continue  # a thread has just connected, or a connection is gone

    def put_back(self, connection: Connection) -> None:
        """Take over a connection whose reply has been read to its end."""
        full = self._closed or len(self._idle) >= _MAX_IDLE_CONNECTIONS
        if full or connection.has_surplus():
            connection.close()
            return
        now = time.monotonic()
        connection.idle_since = now
        connection.used = True
        self._idle.append(connection)
        self._drop_idle(now - self.max_idle)

    def _distrust(self, connection: Connection) -> None:
        """Drop what has been idle for as long as a kept connection that turned out to be dead.

        Whatever forgot the one (a firewall, a server that was restarted) has forgotten the others
        too, and each would cost the next request its time again.
        """
        self._drop_idle(connection.idle_since)

    def _drop_idle(self, since: float) -> None:
        """Close the connections that have been idle since then or longer."""
        # The oldest are at the left; another thread may take one in between, hence the second
        # look at what came.
        while True:
            try:
                if self._idle[0].idle_since > since:
                    return
                oldest = self._idle.popleft()
            except IndexError:
                return
            if oldest.idle_since <= since:
                oldest.close()
            else:
                self._idle.append(oldest)

    def _take_idle(self) -> Connection | None:
        """Return the connection used last that is alive and has nothing to read, if any.

        Bytes behind a reply (a body that came with the answer to a HEAD, or with a 204) would be
        taken for the next reply: whoever controls an object's content could forge answers.
        """
        now = time.monotonic()
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:
                break
            if now - connection.idle_since <= self.max_idle and not connection.is_spent():
                return connection
            connection.close()
        return None

    def _pieces(
        self, method: str, target: str, headers: bytes, body: Sequence[Buffer] | None
    ) -> list[Buffer]:
        """Return a request as it is sent."""
        head = f"{method} {self._target_prefix}{target} HTTP/1.1\r\n".encode()
        head += self._fixed + headers
        if body is None:
            return [head + b"\r\n"]
        size = sum(len(memoryview(piece).cast("B")) for piece in body)
        return [head + b"Content-Length: %d\r\n\r\n" % size, *body]

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
            status, headers, keep = parse_head(head)
            if status >= 200:
                break
            if status == 101:
                raise Unavailable("the server switches protocols unasked")
        return Reply(self, connection, limits, method, status, headers, keep and refused is None)

    def _connect(self, limits: Limits) -> Connection:
        """Return a new connection, through the proxy and TLS where they are asked for."""
        if self._closed:
            raise Unavailable(f"no connection to {self.name}: it is being closed")
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
                connection = Connection(raw)
                if self._tls is not None:
                    at_most = Limits(deadline, self._connect_timeout)
                    if self._proxy:
                        self._tunnel(connection, at_most)
                    connection.encrypt(self._tls, self._origin.host, at_most)
                return connection
            except BaseException:
                raw.close()
                raise
        except (TimeoutError, DeadlineExceeded):
            if time.monotonic() >= limits.deadline - 0.01:
                raise DeadlineExceeded(f"no connection to {self.name} in time") from None
            raise Silent(
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
        """Try the server's addresses in turn, each with its share of the time left.

        If none serves, one that was silent decides what is told: a name often has addresses of a
        kind that this machine has no way to, and these fail at once.
        """
        addresses = self._resolver.addresses(deadline)
        failure: OSError | None = None
        start = next(self._next_bind)
        for tried, (family, address) in enumerate(addresses):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            try:
                connecting = socket.socket(family, socket.SOCK_STREAM)
            except OSError as error:  # without IPv6 in the kernel, say
                failure = failure or error
                continue
            try:
                connecting.settimeout(left / (len(addresses) - tried))
                connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self._bind:
                    # A port for each peer, not one for all: else short connections use them up.
                    connecting.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
                    connecting.bind((self._local(family, start), 0))
                connecting.connect(address)
            except OSError as error:
                connecting.close()
                if not isinstance(failure, TimeoutError):
                    failure = error
                continue
            return connecting
        raise failure or TimeoutError()

    def _local(self, family: int, turn: int) -> str:
        """Return the local address whose turn it is; OSError without one of the family."""
        fitting = [each for each in self._bind if (":" in each) == (family == socket.AF_INET6)]
        if not fitting:
            raise OSError(errno.EADDRNOTAVAIL, "bind_ips has no address of the server's family")
        return fitting[turn % len(fitting)]

    def _tunnel(self, plain: Connection, limits: Limits) -> None:
        """Ask the proxy to connect us to the origin."""
        assert self._proxy is not None
        # Always with the port, unlike the Host header.
        host = f"[{self._origin.host}]" if ":" in self._origin.host else self._origin.host
        target = f"{host}:{self._origin.port}".encode()
        plain.send(
            [
                b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n" % (target, target)
                + self._proxy.authorization
                + b"\r\n"
            ],
            limits,
        )
        try:
            status, _, _ = parse_head(plain.read_head(limits, peek=True))
        except NoReply as error:
            raise Unavailable(f"the proxy {self._proxy.host} closed the connection") from error
        if not 200 <= status < 300:
            raise Unavailable(f"the proxy {self._proxy.host} refuses to connect: {status}")
