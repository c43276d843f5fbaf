"""Small GETs on the loop: quick where it is simple, left to the threads where it is not."""

from __future__ import annotations

import math
import select
import ssl
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trio

from ossfs.credentials import Credentials, StaticCredentials
from ossfs.store import prompt
from ossfs.store.client import StoreClient
from ossfs.store.errors import (
    Archived,
    Changed,
    DeadlineExceeded,
    Denied,
    Invalid,
    NotFound,
    Silent,
    StoreError,
    Transient,
)
from ossfs.store.oss import OssStore
from ossfs.store.retry import RetryPolicy
from ossfs.store.transfer import TransferPool
from tests.support.canned import CLOSE, HANG_UP, RESET, SILENCE, CannedServer, Step

KEYS = StaticCredentials(Credentials("id", "secret"))
BODY = b"0123456789"
NEVER = RetryPolicy(attempts=1)


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
    retry: RetryPolicy | None = None,
    refresh: Callable[[], bool] = lambda: False,
    check: Callable[[StoreClient], None] | None = None,
) -> bytes:
    async def main() -> bytes:
        pool = TransferPool(2)
        client = StoreClient(
            store, request_timeout=timeout, transfer=pool, retry=retry, refresh=refresh
        )
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

    def recording(key: bytes, offset: int, view: memoryview, if_match: str) -> object:
        exchange = begin(key, offset, view, if_match)
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


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_small_get_is_made_on_the_loop_over_tls_too(
    size: int, certificate: Path, server_side: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    body = bytes(range(250)) * (size // 250) + bytes(size % 250)
    answer = (
        b'HTTP/1.1 206 Partial Content\r\nETag: "E1"\r\nx-oss-request-id: R\r\n'
        b"Content-Length: %d\r\nContent-Range: bytes 0-%d/%d\r\n\r\n" % (size, size - 1, size)
    ) + body
    with CannedServer([reply(), answer, answer], tls=server_side) as server:
        store = OssStore("bucket", f"https://127.0.0.1:{server.port}", KEYS)
        warm(store)
        taken = exchanged(store)
        assert get(store, size=size) == body
        assert get(store, size=size) == body
        assert taken == [True, True]
        assert server.connections == 1
        store.close()


@pytest.mark.parametrize("end", [CLOSE, HANG_UP, RESET], ids=repr)
def test_a_kept_tls_connection_that_died_leaves_a_small_get_to_a_thread(
    end: Step, certificate: Path, server_side: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with CannedServer([reply(), end], [reply()], tls=server_side) as server:
        store = OssStore("bucket", f"https://127.0.0.1:{server.port}", KEYS)
        warm(store)
        assert get(store) == BODY
        assert server.connections == 2
        store.close()


def _counted(client: StoreClient, requests: int) -> None:
    assert client.stats.requests["get_range_into"] == requests
    assert client.stats.retries == requests - 1
    assert client.stats.bytes_read == 10


@pytest.mark.parametrize("warmed", [False, True], ids=["by a thread", "on the loop"])
def test_how_long_the_first_bytes_of_a_get_took_is_noted(warmed: bool) -> None:
    slow = [0.03, reply()]
    with CannedServer([reply(), slow] if warmed else [slow]) as server:
        store = store_on(server)
        if warmed:
            warm(store)
        assert get(store, check=_took_long) == BODY
        store.close()


def _took_long(client: StoreClient) -> None:
    assert 0.03 <= client.stats.quickest < math.inf


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
        b"HTTP/1.1 206 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b'HTTP/1.1 206 OK\r\nETag: "E1"\r\n\r\n',
        reply(extra=f"X: {'x' * 40_000}\r\n"),
    ],
    ids=["chunked", "chunked refusal", "no length", "long head"],
)
def test_whatever_is_not_simple_is_asked_again_at_once_through_a_thread(odd: bytes) -> None:
    with CannedServer([reply(), odd], [odd if len(odd) > 40_000 else reply()]) as server:
        store = store_on(server)
        warm(store)
        taken = exchanged(store)
        assert get(store, retry=NEVER, check=lambda client: _counted(client, 2)) == BODY
        assert taken == [True]
        assert server.connections == 2
        store.close()


@pytest.mark.parametrize("end", [HANG_UP, CLOSE, RESET], ids=repr)
def test_a_connection_that_was_dead_already_costs_no_attempt(end: Step) -> None:
    with CannedServer([reply(), end], [reply()]) as server:
        store = store_on(server)
        warm(store)
        assert get(store, retry=NEVER) == BODY
        assert server.connections == 2
        store.close()


@pytest.mark.parametrize(
    "bad",
    [
        [b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"],
        [b"nonsense\r\n\r\n"],
        [reply(BODY + b"more")],
        [reply(BODY[:-3])],
        [reply()[:-3], CLOSE],
        [reply()[:20], CLOSE],
        [reply()[:20], RESET],
    ],
    ids=["error", "nonsense", "too long", "too short", "no end", "no head", "reset"],
)
def test_an_attempt_that_fails_on_the_loop_is_repeated_by_the_rules(
    bad: list[bytes | Step], expect_log: Callable[[str], None]
) -> None:
    expect_log(r"failed after 1 attempt\(s\)")
    for retry in (RetryPolicy(), NEVER):
        with CannedServer([reply(), *bad], [reply()]) as server:
            store = store_on(server)
            warm(store)
            if retry is NEVER:
                with pytest.raises(Transient) as caught:
                    get(store, retry=retry)
                assert caught.value.key == b"key"
                assert server.connections == 1
            else:
                assert get(store, check=lambda client: _counted(client, 2)) == BODY
                assert server.connections == 2
            store.close()


def test_a_reply_after_which_the_connection_is_closed_is_taken_all_the_same() -> None:
    with CannedServer([reply(), reply(extra="Connection: close\r\n")], [reply()]) as server:
        store = store_on(server)
        warm(store)
        taken = exchanged(store)
        assert get(store) == get(store) == BODY
        assert taken == [True, False]
        store.close()


def test_what_arrives_right_behind_a_reply_costs_its_connection() -> None:
    with CannedServer([reply(), reply() + reply(b"forged-10b")], [reply()]) as server:
        store = store_on(server)
        warm(store)
        taken = exchanged(store)
        assert get(store) == get(store) == BODY
        assert taken == [True, False]
        store.close()


def test_the_get_asks_for_exactly_its_bytes_of_exactly_its_version() -> None:
    with CannedServer([reply(), reply()]) as server:
        store = store_on(server)
        warm(store)
        get(store)
        store.close()
    for line in (b"Range: bytes=0-9", b'If-Match: "E1"', b"x-oss-range-behavior: standard"):
        assert b"\r\n" + line + b"\r\n" in server.requests[1]


def test_an_empty_range_is_never_sent() -> None:
    with CannedServer([reply()]) as server:
        store = store_on(server)
        warm(store)
        with pytest.raises(Invalid):
            get(store, size=0)
        assert len(server.requests) == 1
        store.close()


# -- refusals ---------------------------------------------------------------------------------


def refusal(status: int, code: str, *headers: str) -> list[bytes]:
    """Compose a refusal that arrives in pieces."""
    body = f"<Error><Code>{code}</Code><Message>m</Message></Error>".encode()
    lines = [f"HTTP/1.1 {status} Canned", "x-oss-request-id: R", *headers]
    head = "\r\n".join([*lines, f"Content-Length: {len(body)}"]).encode() + b"\r\n\r\n"
    return [head[:9], head[9:], body[:5], body[5:]]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (refusal(404, "NoSuchKey"), NotFound),
        (refusal(403, "InvalidObjectState"), Archived),
        (refusal(403, "AccessDenied"), Denied),
        (refusal(412, "PreconditionFailed"), Changed),
        (refusal(416, "InvalidRange"), Changed),
        (b"HTTP/1.1 412 No\r\nx-oss-request-id: R\r\nContent-Length: 0\r\n\r\n", Changed),
    ],
    ids=range(6),
)
def test_a_refusal_means_on_the_loop_what_it_means_elsewhere(
    answer: bytes | list[bytes], kind: type[StoreError], expect_log: Callable[[str], None]
) -> None:
    if issubclass(kind, Denied):
        expect_log("failed after 1 attempt")
    with CannedServer([reply(), answer, reply()]) as server:
        store = store_on(server)
        warm(store)
        with pytest.raises(kind) as caught:
            get(store)
        assert type(caught.value) is kind
        assert caught.value.key == b"key"
        assert get(store) == BODY
        assert server.connections == 1
        store.close()


CHUNKED = b"Transfer-Encoding: chunked\r\nRetry-After: 1\r\n\r\n0\r\n\r\n"


class Impatient(RetryPolicy):
    """Notes how long it was asked to wait, and does not."""

    asked: ClassVar[list[float | None]] = []

    def delay(self, error: StoreError, **kwargs: Any) -> float | None:
        self.asked.append(error.retry_after if isinstance(error, Transient) else None)
        return 0.0


@pytest.mark.parametrize(
    ("answer", "throttled"),
    [
        (refusal(503, "DownloadTrafficRateLimitExceeded", "Retry-After: 1"), 1),
        (refusal(429, "QpsLimitExceeded", "Retry-After: 1"), 1),
        (refusal(503, "ServiceUnavailable", "Retry-After: 1"), 0),
        (b"HTTP/1.1 429 Slow\r\n" + CHUNKED, 1),
        (b"HTTP/1.1 503 Slow\r\n" + CHUNKED, 0),
    ],
    ids=range(5),
)
def test_a_server_that_asks_for_patience_is_heard_on_the_loop_too(
    answer: bytes | list[bytes], throttled: int
) -> None:
    Impatient.asked.clear()
    with CannedServer([reply(), answer, reply()], [reply()]) as server:
        store = store_on(server)
        warm(store)

        def check(client: StoreClient) -> None:
            _counted(client, 2)
            assert client.stats.throttled == throttled

        assert get(store, retry=Impatient(), check=check) == BODY
        assert Impatient.asked == [1.0]
        assert len(server.requests) == 3
        store.close()


def test_an_expired_token_is_refreshed_when_the_loop_meets_it() -> None:
    with CannedServer([reply(), refusal(403, "SecurityTokenExpired"), reply()]) as server:
        store = store_on(server)
        warm(store)
        assert get(store, refresh=lambda: True) == BODY
        assert len(server.requests) == 3
        store.close()


# -- surplus and silence ----------------------------------------------------------------------


def test_a_connection_with_more_than_its_reply_is_not_used_on_the_loop() -> None:
    head = reply().partition(b"0123")[0].replace(b"Content-Length: 10", b"Content-Length: 9000")
    big = head.replace(b"bytes 0-9/10", b"bytes 0-8999/9000") + bytes(9_000)
    forged = reply(b"forged-10b")
    with CannedServer([reply(), big + forged, forged], [reply()]) as server:
        store = store_on(server)
        warm(store)
        taken = exchanged(store)
        assert get(store, size=9_000) == bytes(9_000)
        select.select([store._transport._idle[0]], [], [], 2)  # the rest may be on its way
        assert get(store) == BODY
        assert taken == [True, False]
        store.close()


def test_a_kept_connection_that_has_gone_silent_costs_little_and_its_like_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prompt, "SILENCE", 0.1)
    for silent in (SILENCE, reply()[:20], reply()[:-3]):
        with CannedServer([reply(), silent], [reply(), SILENCE], [reply()]) as server:
            store = store_on(server)
            warm(store)
            first = store._transport._take_idle()
            assert first is not None
            warm(store)
            store._transport.put_back(first)
            begun = time.monotonic()
            assert get(store, check=lambda client: _counted(client, 2)) == BODY
            assert 0.1 <= time.monotonic() - begun < 2
            assert server.connections == 3
            store.close()


def test_the_loop_waits_for_a_silent_server_no_longer_than_a_thread(
    expect_log: Callable[[str], None],
) -> None:
    expect_log("silent for 0.1 s")
    with CannedServer([reply(), SILENCE]) as server:
        store = OssStore("bucket", server.endpoint, KEYS, read_timeout=0.1)
        warm(store)
        with pytest.raises(Silent, match=r"silent for 0\.1 s"):
            get(store, timeout=30.0, retry=NEVER)
        store.close()


def test_a_request_has_one_deadline_on_the_loop_and_in_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prompt, "SILENCE", 2.0)
    deadlines: list[float] = []
    with CannedServer([reply(), SILENCE], [reply()]) as server:
        store = store_on(server)
        warm(store)
        read = store.get_range_into

        def recording(*args: Any, deadline: float, **kwargs: Any) -> object:
            deadlines.append(deadline)
            return read(*args, deadline=deadline, **kwargs)

        store.get_range_into = recording  # type: ignore[assignment,method-assign]
        begun = time.monotonic()
        assert get(store, timeout=10.0) == BODY
        assert deadlines[0] < begun + 11.5
        store.close()


def test_the_clock_of_what_the_loop_leaves_to_a_thread_stands_still_while_none_is_free() -> None:
    unread = reply().replace(b"Content-Length: 10", b"X: y")  # of unknown length
    with CannedServer([reply(), unread], [reply()]) as server:
        store = store_on(server)
        warm(store)
        now = [1_000.0]
        deadlines: list[float] = []
        read = store.get_range_into

        def recording(*args: Any, deadline: float, **kwargs: Any) -> object:
            deadlines.append(deadline)
            return read(*args, deadline=time.monotonic() + 10, **kwargs)

        store.get_range_into = recording  # type: ignore[assignment,method-assign]

        async def main() -> None:
            pool = TransferPool(1)
            client = StoreClient(store, request_timeout=30, transfer=pool, monotonic=lambda: now[0])
            view = memoryview(bytearray(10))
            taken, free = threading.Event(), threading.Event()

            def occupy() -> None:
                taken.set()
                free.wait(10)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(pool.run, occupy)
                await trio.to_thread.run_sync(taken.wait, 10)
                nursery.start_soon(partial(client.get_range_into, b"key", 0, [view], if_match="E1"))
                while not pool.statistics().demand_waiting:
                    await trio.sleep(0.001)
                now[0] += 500
                free.set()
            await pool.aclose()

        trio.run(main)
        assert deadlines == [1_530.0]
        store.close()


def test_a_server_that_drips_is_given_up_at_the_deadline(
    expect_log: Callable[[str], None],
) -> None:
    expect_log("no answer in time")
    drops: list[bytes | float] = []
    for byte in reply():
        drops += [bytes((byte,)), 0.02]
    with CannedServer([reply(), drops]) as server:
        store = store_on(server)
        warm(store)
        begun = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            get(store, timeout=0.5)
        assert 0.4 <= time.monotonic() - begun < 0.02 * len(reply())
        store.close()


def test_silence_may_cost_only_a_part_of_a_short_request() -> None:
    with CannedServer([reply(), SILENCE], [reply()]) as server:
        store = store_on(server)
        warm(store)
        assert prompt.SILENCE > 2.0
        assert get(store, timeout=2.0) == BODY
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
