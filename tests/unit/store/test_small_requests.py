"""HEAD, short list, DELETE and small PUT on the loop: what a thread sends, and what it would make
of every answer. Of the small GET, and of what holds for all: test_prompt.
"""

from __future__ import annotations

import hashlib
import select
import ssl
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from ossfs.credentials import Credentials, StaticCredentials
from ossfs.store import prompt
from ossfs.store.api import MARK, PLAIN, Expected, ListPage, ObjectInfo, PutOptions, PutReply
from ossfs.store.client import StoreClient
from ossfs.store.connection import Connection, Limits
from ossfs.store.crc import crc64
from ossfs.store.errors import (
    Changed,
    Corrupt,
    DeadlineExceeded,
    Denied,
    Exists,
    Invalid,
    NotFound,
    StoreError,
    Truncated,
    Unavailable,
)
from ossfs.store.exchange import Exchange, Unsuited
from ossfs.store.http_store import HttpStore
from ossfs.store.oss import OssStore
from ossfs.store.retry import RetryPolicy
from ossfs.store.s3 import S3Store
from ossfs.store.transfer import TransferPool
from tests.support.canned import CLOSE, HANG_UP, RESET, SILENCE, CannedServer, Script, Step, reply

WALL = 1_760_000_000.0
NEVER = RetryPolicy(attempts=1)
AT_ONCE = RetryPolicy(base=0.0)
ID = "x-oss-request-id: R\r\nx-amz-request-id: R"
DATE = "Last-Modified: Fri, 24 Feb 2012 06:07:48 GMT"
BODY = b"hello"
MD5 = hashlib.md5(BODY).hexdigest()
CRC = crc64([BODY])
PAGE = (
    b"<ListBucketResult><Prefix>k%2F</Prefix><MaxKeys>1</MaxKeys><EncodingType>url</EncodingType>"
    b"<IsTruncated>false</IsTruncated><Contents><Key>k%2Fa</Key>"
    b"<LastModified>2012-02-24T08:43:07.000Z</LastModified><ETag>&quot;E&quot;</ETag>"
    b"<Size>5</Size></Contents></ListBucketResult>"
)
GONE = f"HTTP/1.1 204 No Content\r\n{ID}\r\n\r\n".encode()
"""As every store answers a DELETE: without any length."""
FOUND = reply(200, b"", ID, DATE, 'ETag: "E"', length=5)
PUT = reply(200, b"", ID, f'ETag: "{MD5}"', f"x-oss-hash-crc64ecma: {CRC}")


@dataclass(frozen=True)
class Kind:
    """One kind of request."""

    name: str
    ask: Callable[[StoreClient], Awaitable[object]]
    answer: bytes
    result: Callable[[object], bool]
    changes: bool = False

    def __repr__(self) -> str:
        return self.name


HEAD = Kind(
    "head",
    lambda client: client.head(b"k", full=True),
    FOUND,
    lambda it: isinstance(it, ObjectInfo) and (it.size, it.etag) == (5, "E"),
)
LIST = Kind(
    "list",
    lambda client: client.list_page(b"k/", delimiter=b"", max_keys=1),
    reply(200, PAGE, ID),
    lambda it: isinstance(it, ListPage) and [entry.key for entry in it.entries] == [b"k/a"],
)
DELETE = Kind(
    "delete", lambda client: client.delete(b"k"), GONE, lambda it: it is None, changes=True
)
PLAIN_PUT = Kind(
    "put",
    lambda client: client.put(b"k", [BODY[:2], BODY[2:]]),
    PUT,
    lambda it: isinstance(it, PutReply) and it.etag == MD5,
    changes=True,
)
EXCLUSIVE_PUT = Kind(
    "exclusive put",
    lambda client: client.put(b"k", [BODY], PutOptions(forbid_overwrite=True)),
    PUT,
    lambda it: isinstance(it, PutReply) and it.etag == MD5,
    changes=True,
)
KINDS = [HEAD, LIST, DELETE, PLAIN_PUT, EXCLUSIVE_PUT]
SAFE = [HEAD, LIST]
REPEATABLE = [HEAD, LIST, DELETE, PLAIN_PUT]
CHANGES = [DELETE, PLAIN_PUT, EXCLUSIVE_PUT]

WITH_BODIES = [LIST, DELETE, PLAIN_PUT, EXCLUSIVE_PUT]
"""A reply to a HEAD has none, whatever it says."""

each = pytest.mark.parametrize("kind", KINDS, ids=repr)


@pytest.fixture(params=[OssStore, S3Store], ids=["oss", "s3"])
def made(request: pytest.FixtureRequest) -> type[HttpStore]:
    """Return the class of store that the test is about."""
    store: type[HttpStore] = request.param
    return store


@contextmanager
def warm(
    made: Any,
    *scripts: Script,
    read_timeout: float = 20.0,
    token: str | None = None,
    tls: ssl.SSLContext | None = None,
) -> Iterator[tuple[HttpStore, CannedServer]]:
    """Give a store with one idle connection, which goes on with the first script."""
    first, *others = scripts
    with CannedServer([GONE, *first], *others, tls=tls) as server:
        store = made(
            "bucket",
            server.endpoint if tls is None else f"https://127.0.0.1:{server.port}",
            StaticCredentials(Credentials("id", "secret", token)),
            region="cn-hangzhou",
            read_timeout=read_timeout,
            wall=lambda: WALL,
        )
        store.delete(b"before", deadline=time.monotonic() + 10)
        try:
            yield store, server
        finally:
            store.close()


def ask(
    kind: Kind,
    store: HttpStore,
    *,
    retry: RetryPolicy = AT_ONCE,
    timeout: float = 10.0,
    refresh: Callable[[], bool] = lambda: False,
    loop: bool = True,
) -> tuple[object, StoreClient]:
    """Make a request; `loop`: by a client that may make it on the loop."""

    async def main() -> tuple[object, StoreClient]:
        pool = TransferPool(1)
        client = StoreClient(
            store,
            request_timeout=timeout,
            retry=retry,
            refresh=refresh,
            transfer=pool if loop else None,
        )
        try:
            return await kind.ask(client), client
        finally:
            await pool.aclose()

    return trio.run(main)


def methods(server: CannedServer) -> list[str]:
    """Return what was asked for after the warming."""
    return [one.split(b" ", 1)[0].decode() for one in server.requests[1:]]


def carried(store: HttpStore) -> list[str]:
    """Record the requests that threads send from now on."""
    sent: list[str] = []
    request = store._transport.request

    def recording(method: str, *args: Any, **kwargs: Any) -> Any:
        sent.append(method)
        return request(method, *args, **kwargs)

    store._transport.request = recording  # type: ignore[method-assign]
    return sent


def refusal(status: int, code: str, *headers: str) -> bytes:
    body = f"<Error><Code>{code}</Code><Message>m</Message></Error>".encode()
    coded = f"x-oss-err: {b64encode(body).decode()}"
    return reply(status, body, ID, coded, *headers)


def refused(kind: Kind, status: int, code: str, *headers: str) -> bytes:
    """Compose a refusal of this kind of request: a HEAD's has no body, though it tells a length."""
    answer = refusal(status, code, *headers)
    return answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if kind is HEAD else answer


# -- what is sent, what comes ------------------------------------------------------------------


@each
def test_the_loop_asks_byte_for_byte_as_a_thread_does(made: Any, kind: Kind) -> None:
    with warm(made, [kind.answer, kind.answer]) as (store, server):
        by_threads = carried(store)
        for loop in (True, False):
            result, client = ask(kind, store, loop=loop)
            assert kind.result(result)
            assert sum(client.stats.requests.values()) == 1
            assert client.stats.retries == client.stats.failures == 0
        assert len(by_threads) == 1, "the loop has left it to a thread"
        assert server.connections == 1
    _, on_loop, in_thread = server.requests
    assert on_loop == in_thread


@each
def test_a_reply_that_comes_in_drops_is_the_same(made: Any, kind: Kind) -> None:
    drops: list[bytes | float] = []
    for start in range(0, len(kind.answer), 7):
        drops += [kind.answer[start : start + 7], 0.0005]
    with warm(made, [drops, kind.answer]) as (store, server):
        by_threads = carried(store)
        assert all(kind.result(ask(kind, store)[0]) for _ in range(2))
        assert by_threads == []
        assert server.connections == 1


@each
def test_the_loop_asks_over_tls_too(
    made: Any,
    kind: Kind,
    certificate: Path,
    server_side: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    line = b"\r\n" + ID.encode()
    long = kind.answer.replace(line, line + b"\r\nX: " + b"x" * 12_000)  # no one reading takes it
    answers = [kind.answer, kind.answer, long]
    with warm(made, answers, tls=server_side) as (store, server):
        by_threads = carried(store)
        assert all(kind.result(ask(kind, store, timeout=5.0)[0]) for _ in answers)
        assert by_threads == []
        assert server.connections == 1
    assert server.requests[1] == server.requests[2]


@each
def test_without_an_idle_connection_a_thread_does_it(made: Any, kind: Kind) -> None:
    with warm(made, [], [kind.answer]) as (store, _):
        taken = store._transport._take_idle()
        assert taken is not None
        by_threads = carried(store)
        assert kind.result(ask(kind, store)[0])
        assert len(by_threads) == 1
        taken.close()


def test_what_comes_behind_a_reply_without_a_body_costs_its_connection(made: Any) -> None:
    for kind in (HEAD, DELETE):
        with warm(made, [kind.answer + b"forged"], [kind.answer]) as (store, server):
            assert kind.result(ask(kind, store)[0])
            if store._transport._idle:  # what follows came too late to be seen with the reply
                select.select([store._transport._idle[0]], [], [], 2)
            assert kind.result(ask(kind, store)[0])
            assert server.connections == 2


def test_what_no_store_can_hold_is_not_asked_for(made: Any) -> None:
    with warm(made, []) as (store, server):
        for kind, error in (
            (Kind("", lambda client: client.head(b"\xff"), b"", bool), NotFound),
            (Kind("", lambda client: client.list_page(b"\xff", max_keys=1), b"", bool), NotFound),
            (Kind("", lambda client: client.list_page(b"", max_keys=0), b"", bool), Invalid),
            (Kind("", lambda client: client.delete(b""), b"", bool), Invalid),
            (Kind("", lambda client: client.put(b"\xff", [b""]), b"", bool), Invalid),
        ):
            with pytest.raises(error):
                ask(kind, store)
        assert methods(server) == []


def test_long_lists_and_large_objects_are_left_to_threads(made: Any) -> None:
    large = bytes(prompt.PUT_LIMIT + 1)
    md5 = hashlib.md5(large).hexdigest()
    stored = reply(200, b"", ID, f'ETag: "{md5}"', f"x-oss-hash-crc64ecma: {crc64([large])}")
    with warm(made, [LIST.answer, stored]) as (store, _):
        by_threads = carried(store)
        ask(Kind("", lambda client: client.list_page(b"k/", max_keys=3), b"", bool), store)
        ask(Kind("", lambda client: client.put(b"k", [large]), b"", bool), store)
        assert by_threads == ["GET", "PUT"]


def test_an_object_that_does_not_fit_into_the_socket_is_left_to_a_thread(
    made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with warm(made, [PUT]) as (store, server):
        by_threads = carried(store)
        monkeypatch.setattr(Connection, "takes", lambda self, size: size < 10)
        assert PLAIN_PUT.result(ask(PLAIN_PUT, store)[0])
        assert by_threads == ["PUT"]
        assert server.connections == 1


def test_an_object_that_was_sent_by_half_is_sent_again_by_a_thread(
    made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with warm(made, [], [PUT]) as (store, server):
        send = Connection.send_now
        monkeypatch.setattr(Connection, "send_now", lambda self, it: send(self, it[:1]) and False)
        assert EXCLUSIVE_PUT.result(ask(EXCLUSIVE_PUT, store, retry=NEVER)[0])
        assert methods(server) == ["PUT"]


# -- refusals ----------------------------------------------------------------------------------


@each
@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (403, "AccessDenied", Denied),
        (403, "RequestTimeTooSkewed", Denied),
        (404, "NoSuchKey", NotFound),
        (400, "InvalidArgument", Invalid),
    ],
)
def test_a_refusal_means_what_it_means_to_a_thread(
    made: Any,
    kind: Kind,
    status: int,
    code: str,
    error: type[StoreError],
    expect_log: Callable[[str], None],
) -> None:
    if error is Denied:
        expect_log(r"failed after 1 attempt\(s\)")
    answer = refused(kind, status, code)
    with warm(made, [answer, answer, kind.answer]) as (store, server):
        by_threads = carried(store)
        if kind is DELETE and error is NotFound:  # which is no error
            assert DELETE.result(ask(kind, store)[0])
            assert DELETE.result(ask(kind, store, loop=False)[0])
        else:
            told = []
            for loop in (True, False):
                with pytest.raises(error) as caught:
                    ask(kind, store, loop=loop)
                assert type(caught.value) is error
                told.append((str(caught.value), caught.value.code, caught.value.key))
            assert told[0] == told[1]
            assert told[0][2] == (b"k/" if kind is LIST else b"k")
        assert kind.result(ask(kind, store)[0])
        assert len(by_threads) == 1
        assert server.connections == 1


@pytest.mark.parametrize("kind", WITH_BODIES, ids=repr)
def test_a_refusal_of_unknown_length_is_asked_for_again_by_a_thread(
    made: Any, kind: Kind, expect_log: Callable[[str], None]
) -> None:
    expect_log("failed after")
    head, _, body = refusal(403, "AccessDenied").partition(b"\r\n\r\n")
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
    odd = b"\r\n".join([*lines, b"Transfer-Encoding: chunked"]) + b"\r\n\r\n" + chunks
    with warm(made, [odd], [odd]) as (store, server):
        with pytest.raises(Denied, match="AccessDenied"):
            ask(kind, store, retry=NEVER)
        assert server.connections == 2


@each
def test_a_server_that_is_in_trouble_is_asked_again_by_the_rules(made: Any, kind: Kind) -> None:
    for status, code, throttled in ((429, "Anything", 1), (500, "InternalError", 0)):
        if status == 500 and kind is EXCLUSIVE_PUT:
            continue  # which may be in doubt: see below
        with warm(made, [refused(kind, status, code), kind.answer]) as (store, server):
            result, client = ask(kind, store)
            assert kind.result(result)
            assert (client.stats.throttled, client.stats.retries) == (throttled, 1)
            assert server.connections == 1


@each
def test_an_expired_token_is_refreshed_once(made: Any, kind: Kind) -> None:
    # Of a HEAD S3 tells no code; that the keys are temporary tells it.
    status, code = (403, "SecurityTokenExpired") if made is OssStore else (400, "ExpiredToken")
    asked: list[bool] = []
    with warm(made, [refused(kind, status, code), kind.answer], token="token") as (store, _):
        result, _ = ask(kind, store, refresh=lambda: not asked.append(True))
        assert kind.result(result)
        assert asked == [True]


def test_a_missing_object_is_learnt_from_a_head_and_a_list_on_one_connection(made: Any) -> None:
    nothing = PAGE[: PAGE.index(b"<Contents>")] + b"</ListBucketResult>"
    missing = refused(HEAD, 404, "NoSuchKey")
    with warm(made, [missing, reply(200, nothing, ID)]) as (store, server):
        by_threads = carried(store)
        with pytest.raises(NotFound):
            ask(HEAD, store)
        page, _ = ask(LIST, store)
        assert isinstance(page, ListPage)
        assert not page.entries
        assert by_threads == []
        assert server.connections == 1


# -- connections that fail ---------------------------------------------------------------------


@pytest.mark.parametrize("end", [HANG_UP, CLOSE, RESET], ids=repr)
@pytest.mark.parametrize("kind", REPEATABLE, ids=repr)
def test_a_connection_that_was_dead_already_costs_no_attempt(
    made: Any, kind: Kind, end: Step
) -> None:
    with warm(made, [end], [kind.answer]) as (store, server):
        assert kind.result(ask(kind, store, retry=NEVER)[0])
        assert server.connections == 2


def test_what_must_not_happen_twice_is_not_sent_again_over_a_dead_connection(
    made: Any, expect_log: Callable[[str], None]
) -> None:
    expect_log("failed after 1 attempt")
    with warm(made, [HANG_UP], [PUT]) as (store, server):
        with pytest.raises(Unavailable):
            ask(EXCLUSIVE_PUT, store)
        assert methods(server) == ["PUT"]


def test_a_lost_reply_to_an_exclusive_put_is_asked_after_before_anything_else(made: Any) -> None:
    options = PutOptions(metadata={MARK: "mark"}, forbid_overwrite=True)
    expect = Expected(len(BODY), CRC if made is OssStore else None, "mark")
    marked = Kind("", lambda it: it.put(b"k", [BODY], options, expect=expect), PUT, bool)
    ours = [
        f"x-oss-meta-{MARK}: mark",
        f"x-amz-meta-{MARK}: mark",
        f'ETag: "{MD5}"',
        f"x-oss-hash-crc64ecma: {CRC}",
    ]
    there = reply(200, b"", ID, DATE, *ours, length=len(BODY))
    for end in (HANG_UP, PUT[:20], refusal(500, "InternalError")):
        script = [end, CLOSE] if isinstance(end, bytes) else [end]
        with warm(made, script, [there]) as (store, server):
            result, _ = ask(marked, store)
            assert isinstance(result, PutReply)
            assert result.etag == MD5
            assert methods(server) == ["PUT", "HEAD"]
    for end in (HANG_UP, PUT[:20]):
        script = [end, CLOSE] if isinstance(end, bytes) else [end]
        missing = refused(HEAD, 404, "NoSuchKey")
        with warm(made, script, [missing, PUT]) as (store, server):
            ask(marked, store)
            assert methods(server) == ["PUT", "HEAD", "PUT"]


BROKEN = [
    *[(kind, b"HTTP/1.1 200 OK\r\nETag") for kind in REPEATABLE],
    *[(kind, b"nonsense\r\n\r\n") for kind in REPEATABLE],
    (LIST, b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n"),
    (DELETE, b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n"),
    (LIST, reply(404, b"<Error>", ID, length=500)),
    (DELETE, reply(404, b"<Error>", ID, length=500)),
    (PLAIN_PUT, reply(404, b"<Error>", ID, length=500)),
]


@pytest.mark.parametrize(("kind", "answer"), BROKEN, ids=lambda value: str(value)[:20])
def test_an_answer_that_breaks_off_or_makes_no_sense_is_repeated_by_the_rules(
    made: Any, kind: Kind, answer: bytes, expect_log: Callable[[str], None]
) -> None:
    expect_log("failed after 1 attempt")
    with warm(made, [answer, CLOSE]) as (store, server):
        by_threads = carried(store)
        with pytest.raises(Truncated if b"404" in answer else Unavailable):
            ask(kind, store, retry=NEVER)
        assert by_threads == []
        assert len(methods(server)) == 1
    with warm(made, [answer, CLOSE], [kind.answer]) as (store, server):
        result, client = ask(kind, store)
        assert kind.result(result)
        assert client.stats.retries == 1
        assert len(methods(server)) == 2


def test_a_list_that_breaks_off_is_no_short_list(
    made: Any, expect_log: Callable[[str], None]
) -> None:
    expect_log("failed after 1 attempt")
    with warm(made, [LIST.answer[:-30], CLOSE]) as (store, _), pytest.raises(Truncated):
        ask(LIST, store, retry=NEVER)


def test_a_list_without_sense_is_a_bad_reply(made: Any, expect_log: Callable[[str], None]) -> None:
    expect_log("failed after 1 attempt")
    with warm(made, [reply(200, b"<html/>", ID)]) as (store, _), pytest.raises(Unavailable):
        ask(LIST, store, retry=NEVER)


# -- odd replies -------------------------------------------------------------------------------


def chunked(body: bytes, *headers: str) -> bytes:
    lines = "\r\n".join(["HTTP/1.1 200 OK", ID, *headers, "Transfer-Encoding: chunked"])
    return lines.encode() + b"\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


def test_a_server_that_lists_in_chunks_is_asked_twice_once(made: Any) -> None:
    odd = chunked(PAGE)
    with warm(made, [odd], [odd, odd, odd]) as (store, server):
        by_threads = carried(store)
        for _ in range(3):
            assert LIST.result(ask(LIST, store, retry=NEVER)[0])
        assert by_threads == ["GET"] * 3
        assert methods(server) == ["GET"] * 4
        assert server.connections == 2


def test_a_change_that_is_done_is_not_made_again_for_its_reply_s_sake(made: Any) -> None:
    etag = f'ETag: "{MD5}"'
    for kind, odd in (
        (DELETE, chunked(b"done")),
        (DELETE, f"HTTP/1.1 200 OK\r\n{ID}\r\n\r\ndone".encode()),
        (DELETE, reply(200, bytes(70_000), ID)),
        (PLAIN_PUT, chunked(b"done", etag)),
        (EXCLUSIVE_PUT, chunked(b"done", etag)),
    ):
        with warm(made, [odd], [kind.answer]) as (store, server):
            assert kind.result(ask(kind, store, retry=NEVER)[0])
            assert len(methods(server)) == 1
            assert kind.result(ask(kind, store, retry=NEVER)[0])
            assert server.connections == 2


@pytest.mark.parametrize(
    "odd",
    [
        reply(200, b"", ID, DATE, f"X: {'x' * 40_000}"),
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ],
    ids=["long head", "another protocol"],
)
@pytest.mark.parametrize("kind", [*SAFE, EXCLUSIVE_PUT], ids=repr)
def test_a_head_that_cannot_be_read_here_is_for_a_thread_or_for_the_rules(
    made: Any, kind: Kind, odd: bytes, expect_log: Callable[[str], None]
) -> None:
    with warm(made, [odd], [kind.answer]) as (store, server):
        if kind.changes:
            expect_log("failed after 1 attempt")
            with pytest.raises(Unavailable):
                ask(kind, store)
            assert len(methods(server)) == 1
        else:
            assert kind.result(ask(kind, store, retry=NEVER)[0])
            assert len(methods(server)) == 2


def test_a_put_that_arrives_damaged_is_sent_again(made: Any) -> None:
    damaged = reply(200, b"", ID, 'ETag: "0"', "x-oss-hash-crc64ecma: 1")
    with warm(made, [damaged, PUT]) as (store, server):
        result, client = ask(PLAIN_PUT, store)
        assert PLAIN_PUT.result(result)
        assert client.stats.retries == 1
        assert methods(server) == ["PUT", "PUT"]


def test_a_put_that_arrives_damaged_for_good_is_corrupt(
    made: Any, expect_log: Callable[[str], None]
) -> None:
    expect_log("failed after 3 attempt")
    damaged = reply(200, b"", ID, 'ETag: "0"', "x-oss-hash-crc64ecma: 1")
    with warm(made, [damaged] * 3) as (store, _), pytest.raises(Corrupt) as caught:
        ask(PLAIN_PUT, store)
    assert caught.value.etag == "0"


def test_an_exclusive_put_meets_an_object(made: Any) -> None:
    if made is OssStore:
        answers = [refusal(409, "FileAlreadyExists")]
    else:  # a thread asks whether it is only a ghost
        answers = [refusal(412, "PreconditionFailed")] * 2 + [FOUND]
    with warm(made, answers) as (store, server), pytest.raises(Exists):
        ask(EXCLUSIVE_PUT, store)
    assert methods(server) == (["PUT"] if made is OssStore else ["PUT", "PUT", "HEAD"])


def test_a_directory_of_the_servers_own_makes_way_for_an_exclusive_put() -> None:
    ghost = reply(200, b"", ID, DATE, f'ETag: "{MD5}-0"')
    refuses = refusal(412, "PreconditionFailed")
    with warm(S3Store, [refuses, refuses, ghost, GONE, PUT, ghost]) as (store, server):
        assert EXCLUSIVE_PUT.result(ask(EXCLUSIVE_PUT, store)[0])
        assert methods(server) == ["PUT", "PUT", "HEAD", "DELETE", "PUT"]
        with pytest.raises(NotFound):
            ask(HEAD, store)


def test_a_changed_object_is_no_matter_for_a_thread_where_nothing_was_forbidden() -> None:
    answers = [refusal(412, "PreconditionFailed")] * 2
    with warm(S3Store, answers) as (store, _), pytest.raises(Changed):
        ask(PLAIN_PUT, store)


# -- silence, deadlines, cancellation ----------------------------------------------------------


def test_silence_is_borne_as_in_a_thread_only_by_what_changes_something(
    made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt, "SILENCE", 0.05)
    for kind in REPEATABLE:
        with warm(made, [SILENCE], [kind.answer], read_timeout=0.4) as (store, server):
            begun = time.monotonic()
            result, client = ask(kind, store)
            assert kind.result(result)
            assert client.stats.retries == 1
            took = time.monotonic() - begun
            assert took >= (0.4 if kind.changes else 0.05)
            assert server.connections == 2


def test_a_change_that_the_server_is_slow_at_is_made_once(
    made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt, "SILENCE", 0.01)
    for kind in CHANGES:
        with warm(made, [[0.1, kind.answer]]) as (store, server):
            assert kind.result(ask(kind, store, retry=NEVER)[0])
            assert len(methods(server)) == 1


@each
def test_a_silent_server_is_given_up_at_the_deadline(
    made: Any, kind: Kind, expect_log: Callable[[str], None]
) -> None:
    expect_log("no answer in time")
    with warm(made, [SILENCE], [SILENCE]) as (store, _):
        begun = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            ask(kind, store, timeout=0.3)
        assert 0.25 <= time.monotonic() - begun < 5


class Held:
    """A reply that the test lets go."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self.arrived = trio.Event()
        self._token = trio.lowlevel.current_trio_token()
        self._go: list[bool] = []

    def __call__(self, _request: bytes) -> bytes:
        self._token.run_sync_soon(self.arrived.set)
        while not self._go:
            time.sleep(0.001)
        return self._answer

    def release(self) -> None:
        self._go.append(True)


@each
def test_a_request_that_is_cancelled_ends_as_in_a_thread(made: Any, kind: Kind) -> None:
    """What only looks is dropped at once, with its connection; a change is seen through."""
    results: list[object] = []

    async def main() -> None:
        held = Held(kind.answer)
        with warm(made, [held], [kind.answer]) as (store, server):
            pool = TransferPool(1)
            client = StoreClient(store, request_timeout=10, transfer=pool, retry=NEVER)

            async def work() -> None:
                results.append(await kind.ask(client))

            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(work)
                    await held.arrived.wait()
                    nursery.cancel_scope.cancel()
                    if kind.changes:
                        held.release()
            finally:
                held.release()
            assert len(results) == kind.changes
            assert all(map(kind.result, results))
            assert len(store._transport._idle) == kind.changes
            assert len(methods(server)) == 1
            await pool.aclose()

    trio.run(main)


@each
def test_what_is_cancelled_before_it_is_sent_is_not_sent(made: Any, kind: Kind) -> None:
    async def main() -> None:
        with warm(made, [kind.answer]) as (store, server):
            pool = TransferPool(1)
            client = StoreClient(store, request_timeout=10, transfer=pool)
            with trio.CancelScope() as scope:
                scope.cancel()
                await kind.ask(client)
            assert scope.cancelled_caught
            assert kind.result(await kind.ask(client))
            assert len(methods(server)) == 1
            await pool.aclose()

    trio.run(main)


def to_the_end(exchange: Exchange[Any]) -> None:
    while not exchange.advance():
        select.select([exchange], [], [], 5)


@pytest.mark.parametrize("kind", CHANGES, ids=repr)
def test_no_change_is_ever_asked_for_again_by_itself_once_its_reply_has_begun(
    made: Any, kind: Kind
) -> None:
    """Cut a reply everywhere; only the cut before its first byte may be `Unsuited`."""
    for cut in range(0, len(kind.answer), 5):
        with warm(made, [kind.answer[:cut], CLOSE] if cut else [HANG_UP]) as (store, _):
            exchange = {
                "delete": lambda: store.begin_delete(b"k"),
                "put": lambda: store.begin_put(b"k", [BODY], PLAIN),
                "exclusive put": lambda: store.begin_put(
                    b"k", [BODY], PutOptions(forbid_overwrite=True)
                ),
            }[kind.name]()
            assert exchange is not None
            unsuited = cut == 0 and kind is not EXCLUSIVE_PUT
            with pytest.raises(Unsuited if unsuited else Unavailable):
                to_the_end(exchange)


# As in a thread

INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.parametrize("kind", KINDS, ids=repr)
@pytest.mark.parametrize("how", ["joined", "apart"])
def test_an_interim_reply_is_passed_over_as_in_a_thread(made: Any, kind: Kind, how: str) -> None:
    script = [INTERIM + kind.answer] if how == "joined" else [[INTERIM, 0.05, kind.answer]]
    with warm(made, script) as (store, server):
        assert kind.result(ask(kind, store, retry=NEVER)[0])
        assert len(methods(server)) == 1


@pytest.mark.parametrize("kind", SAFE, ids=repr)
def test_a_store_slower_than_the_loop_waits_has_its_one_attempt_in_a_thread(
    made: Any, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt, "SILENCE", 0.05)
    with warm(made, [[0.2, kind.answer]], [[0.2, kind.answer]], read_timeout=5) as (store, _):
        assert kind.result(ask(kind, store, retry=NEVER)[0])


def test_a_dead_connection_takes_those_along_that_are_as_old(
    made: Any, expect_log: Callable[[str], None]
) -> None:
    """A server that was restarted without a farewell: each would cost a request its attempt."""
    expect_log("failed after 1 attempt")
    with warm(made, [HANG_UP], [PUT]) as (store, _):
        transport = store._transport
        young = transport._idle[-1]
        old = transport._connect(Limits(time.monotonic() + 5, 5.0))
        transport.put_back(old)
        transport._idle.rotate(1)
        old.idle_since = young.idle_since - 1
        with pytest.raises(Unavailable):
            ask(EXCLUSIVE_PUT, store, retry=NEVER)
        assert not transport._idle
