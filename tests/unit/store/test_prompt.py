"""Small GETs on the loop: quick where it is simple, left to the threads where it is not."""

from __future__ import annotations

import select
import time
from collections.abc import Callable

import pytest
import trio

from ossfs.credentials import Credentials, StaticCredentials
from ossfs.store.client import StoreClient
from ossfs.store.errors import Changed, DeadlineExceeded
from ossfs.store.oss import OssStore
from ossfs.store.transfer import TransferPool
from tests.support.canned import CLOSE, SILENCE, CannedServer

KEYS = StaticCredentials(Credentials("id", "secret"))
BODY = b"0123456789"


def reply(
    body: bytes = BODY, *, etag: str = "E1", status: str = "206 Partial Content", extra: str = ""
) -> bytes:
    head = (
        f'HTTP/1.1 {status}\r\nETag: "{etag}"\r\nContent-Length: {len(body)}\r\n'
        f"Content-Range: bytes 0-9/10\r\nx-oss-request-id: R\r\n{extra}\r\n"
    )
    return head.encode() + body


def store_on(server: CannedServer) -> OssStore:
    return OssStore("bucket", f"http://127.0.0.1:{server.port}", KEYS)


def warm(store: OssStore) -> None:
    """Leave one idle connection behind."""
    view = memoryview(bytearray(10))
    store.get_range_into(b"key", 0, [view], if_match="E1", deadline=time.monotonic() + 10)


def get(
    store: OssStore,
    *,
    size: int = 10,
    timeout: float = 10.0,
    check: Callable[[StoreClient], None] | None = None,
) -> bytes:
    async def main() -> bytes:
        pool = TransferPool(2)
        client = StoreClient(store, request_timeout=timeout, transfer=pool)
        view = memoryview(bytearray(size))
        try:
            await client.get_range_into(b"key", 0, [view], if_match="E1")
        finally:
            await pool.aclose()
        if check is not None:
            check(client)
        return bytes(view)

    return trio.run(main)


def exchanged(store: OssStore) -> list[bool]:
    """Record for every small GET whether the loop took it."""
    taken: list[bool] = []
    begin = store.begin_range

    def recording(key: bytes, offset: int, size: int, if_match: str) -> object:
        exchange = begin(key, offset, size, if_match)
        taken.append(exchange is not None)
        return exchange

    store.begin_range = recording  # type: ignore[assignment,method-assign]
    return taken


def test_an_idle_connection_serves_a_small_get_on_the_loop() -> None:
    with CannedServer([reply(), reply()]) as server:
        store = store_on(server)
        warm(store)
        taken = exchanged(store)
        assert get(store, check=lambda client: _counted(client, 1)) == BODY
        assert taken == [True]
        assert server.connections == 1
        store.close()


def _counted(client: StoreClient, requests: int) -> None:
    assert client.stats.requests["get_range_into"] == requests
    assert client.stats.bytes_read == 10


def test_without_an_idle_connection_a_thread_does_it() -> None:
    with CannedServer([reply()]) as server:
        store = store_on(server)
        taken = exchanged(store)
        assert get(store) == BODY
        assert taken == [False]
        store.close()


def test_a_changed_object_is_told_from_the_etag() -> None:
    with CannedServer([reply(), reply(etag="E2")]) as server:
        store = store_on(server)
        warm(store)
        with pytest.raises(Changed):
            get(store)
        store.close()


@pytest.mark.parametrize(
    "odd",
    [
        b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 206 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"nonsense\r\n\r\n",
        reply(extra="Connection: close\r\n"),
        reply(BODY + b"more"),
        reply(BODY[:-3]),
    ],
    ids=["error", "chunked", "nonsense", "closing", "too long", "too short"],
)
def test_whatever_is_not_simple_is_asked_again_through_a_thread(odd: bytes) -> None:
    with CannedServer([reply(), odd], [reply()]) as server:
        store = store_on(server)
        warm(store)
        taken = exchanged(store)
        assert get(store) == BODY
        assert taken == [True]
        assert server.connections == 2
        store.close()


def test_a_connection_with_more_than_its_reply_is_not_used_on_the_loop() -> None:
    head = reply().partition(b"0123")[0].replace(b"Content-Length: 10", b"Content-Length: 9000")
    big = head.replace(b"bytes 0-9/10", b"bytes 0-8999/9000") + bytes(9_000)
    forged = reply(b"forged-10b")
    with CannedServer([reply(), big + forged, forged], [reply()]) as server:
        store = store_on(server)
        warm(store)
        taken = exchanged(store)
        assert get(store, size=9_000) == bytes(9_000)
        select.select([store._transport._idle[0]], [], [], 10)  # the rest may be on its way
        assert get(store) == BODY
        assert taken == [True, False]
        store.close()


def test_a_reply_that_breaks_off_is_asked_again_through_a_thread() -> None:
    with CannedServer([reply(), reply()[:-3], CLOSE], [reply()]) as server:
        store = store_on(server)
        warm(store)
        assert get(store) == BODY
        store.close()


def test_a_silent_server_is_given_up_at_the_deadline(expect_log: Callable[[str], None]) -> None:
    expect_log("no answer in time")
    with CannedServer([reply(), SILENCE]) as server:
        store = store_on(server)
        warm(store)
        started = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            get(store, timeout=0.3)
        assert time.monotonic() - started < 5
        store.close()
