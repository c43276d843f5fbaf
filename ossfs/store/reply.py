"""A reply to a request: its head, and its body framed exactly.

The three framings of HTTP/1.1 are read as they are meant or not at all: a body of a
given length, in chunks, or to the end of the connection. A body goes from the kernel
straight into the caller's buffers. When it has been read to its end the connection goes
back to its keeper; when anything about it is in doubt the connection is closed.

A reply belongs to one thread, as its connection does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from ossfs.store.connection import Connection, Limits
from ossfs.store.errors import StoreError, Truncated, Unavailable

MAX_BODY = 64 * 1024 * 1024
"""Bytes of a reply that is read whole; a listing of 1,000 long keys has 4 MiB."""
_DRAIN = 64 * 1024
"""Unread bytes worth receiving to keep a connection."""
_LAST_CHUNK = 0.1
"""Seconds that a kept connection is worth waiting for, once all that was wanted is here."""
_BODYLESS = (204, 304)
"""Statuses after which no body comes, whatever length is told."""
_NATURAL = re.compile(r"[0-9]{1,20}")
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}")


class Keeper(Protocol):
    """Whoever the connection came from."""

    name: str
    """The server as messages name it."""

    def put_back(self, connection: Connection) -> None:
        """Take over a connection whose reply has been read to its end."""
        ...


class Headers(Mapping[str, str]):
    """A reply's headers, found by name in any case."""

    __slots__ = ("_by_name",)

    def __init__(self, by_name: dict[str, str]) -> None:
        """Take over `by_name`, whose names are in lower case."""
        self._by_name = by_name

    def __getitem__(self, name: str) -> str:
        return self._by_name[name.lower()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._by_name

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
        "_keeper",
        "_left",
        "_limits",
        "_line_due",
        "headers",
        "length",
        "method",
        "status",
    )

    def __init__(
        self,
        keeper: Keeper,
        connection: Connection,
        limits: Limits,
        method: str,
        status: int,
        headers: Headers,
        keep: bool,
    ) -> None:
        self.method = method
        """Of the request: what a 404 means depends on it."""
        self.status = status
        self.headers = headers
        self.length = body_length(method, status, headers)
        """Bytes of the body; None where only its end will tell."""
        self._keeper = keeper
        self._connection: Connection | None = connection
        self._limits = limits
        self._keep = keep
        self._chunked = False
        self._left = 0
        """Bytes still to come of the body, or of the current chunk."""
        self._line_due = False
        """Whether an empty line comes before the next chunk."""
        if self.length is not None:
            self._left = self.length
        elif "transfer-encoding" in headers:
            if headers["transfer-encoding"].lower() != "chunked":
                raise Unavailable("the reply has an unknown transfer encoding")
            self._chunked = True
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
        buffer is touched again. Once all buffers are full nothing can fail any more: a body that
        does not end there as it should costs its connection and nothing else.
        """
        if self.length is not None and self.length > sum([len(buffer) for buffer in buffers]):
            self.close()
            raise Unavailable("the reply is longer than it should be")
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
            if self.length is None and not self._ends():
                self.close()
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

    def _ends(self) -> bool:
        """Whether a body of unknown length has come to its end, so that a next reply can follow."""
        if not self._chunked:
            return False
        self._limits = self._limits._replace(silence=min(self._limits.silence, _LAST_CHUNK))
        try:
            return not self._some(memoryview(bytearray(1)))
        except StoreError:
            return False

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
            following = self._left - len(view)
            got = connection.fill(view, self._limits, following=following) if view else 0
        except OSError as error:
            raise Unavailable(
                f"the connection to {self._keeper.name} was lost: {error.strerror or error}"
            ) from error
        self._left -= got
        return got

    def _some_of_chunk(self, connection: Connection, view: memoryview) -> int:
        if self._left < 0:
            return 0
        if not self._left:
            if self._line_due and connection.read_line(self._limits):
                raise Unavailable("the reply has a malformed chunk")
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
        self._line_due = True
        return got

    def _release(self) -> None:
        connection = self._connection
        if connection is not None:
            self._connection = None
            if self._keep:
                self._keeper.put_back(connection)
            else:
                connection.close()


def body_length(method: str, status: int, headers: Headers) -> int | None:
    """Return the bytes of the body that follows a head; None where only its end will tell."""
    if method == "HEAD" or status in _BODYLESS:
        return 0
    if "transfer-encoding" in headers or "content-length" not in headers:
        return None
    try:
        return natural(headers["content-length"])
    except ValueError:
        raise Unavailable("the reply's Content-Length is not a number") from None


def natural(text: str) -> int:
    """Read a number of up to 20 digits, as 64 bits have; ValueError where it is none.

    int() would take a sign, blanks and underscores as well, and fails on 4,300 digits.
    """
    if not _NATURAL.fullmatch(text):
        raise ValueError("not a number")
    return int(text)


def parse_head(head: bytes) -> tuple[int, Headers, bool]:
    """Return the status, the headers, and whether the connection may be used again.

    Takes time in proportion to the head's size, whatever is in it.
    """
    text = head.decode("utf-8", "surrogateescape")
    line, *fields = text.split("\r\n")
    code = line[9:12]
    if not (line.startswith("HTTP/1.") and line[8:9] == " " and code.isdigit() and code.isascii()):
        raise Unavailable("the reply is not HTTP/1.1")
    headers: dict[str, str] = {}
    repeated: dict[str, list[str]] = {}
    for field in fields:
        name, colon, value = field.partition(":")
        if not (name and colon):
            raise Unavailable("the reply has a malformed header")
        name = name.lower()
        value = value.strip(" \t")
        if name not in headers:
            headers[name] = value
        elif name in repeated:
            repeated[name].append(value)
        else:
            repeated[name] = [headers[name], value]
    # Every CR and LF belongs to the end of a line, and no name holds what would end it.
    ends, names = len(fields), "".join(headers)
    sound = names.isascii() and names.isprintable() and " " not in names
    if not sound or text.count("\r") != ends or text.count("\n") != ends:
        raise Unavailable("the reply has a malformed header")
    for name, values in repeated.items():
        headers[name] = ", ".join(values)
    connection = headers.get("connection", "").lower()
    keep = "close" not in connection and (line[7] == "1" or "keep-alive" in connection)
    return int(code), Headers(headers), keep
