"""A transport to a canned server, as the tests of the store's lowest layer want it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from ossfs.store.reply import Reply
from ossfs.store.transport import Origin, Transport
from tests.support.canned import CannedServer, reply

OK = reply(200, b"hello")
LONG = 30.0


def soon(seconds: float = LONG) -> float:
    return time.monotonic() + seconds


@contextmanager
def transport_to(
    server: CannedServer, scheme: str = "http", **options: object
) -> Iterator[Transport]:
    transport = Transport(Origin(scheme, "127.0.0.1", server.port), **options)  # type: ignore[arg-type]
    try:
        yield transport
    finally:
        transport.close()


def get(transport: Transport, **options: object) -> Reply:
    options.setdefault("deadline", soon())
    return transport.request("GET", "/k", **options)  # type: ignore[arg-type]
