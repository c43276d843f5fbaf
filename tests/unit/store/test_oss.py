"""OssStore against a server that answers from a script: what each answer means, and what is sent.

What a sound server does is the conformance suite's matter, in tests/store.
"""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from ossfs.credentials import Credentials, StaticCredentials
from ossfs.store.api import PutOptions, Store, UploadPart
from ossfs.store.crc import crc64
from ossfs.store.endpoint import Endpoint
from ossfs.store.errors import (
    Archived,
    Changed,
    Corrupt,
    DeadlineExceeded,
    Denied,
    Elsewhere,
    Exists,
    Expired,
    Invalid,
    NoBucket,
    NotAppendable,
    NotFound,
    NoUpload,
    PositionConflict,
    Silent,
    StoreError,
    Throttled,
    TooLarge,
    Truncated,
    Unavailable,
    WrongRegion,
)
from ossfs.store.oss import OssStore
from ossfs.store.transport import Origin
from tests.support.canned import CLOSE, HANG_UP, SILENCE, CannedServer, Script, reply

SECRET = "very-secret-key"
TOKEN = "very-secret-token"
KEYS = Credentials("key-id", SECRET)
TEMPORARY = Credentials("STS.key-id", SECRET, token=TOKEN)
ID = "x-oss-request-id: 5C3D9175B6FC201293AD"
DATE = "Last-Modified: Fri, 24 Feb 2012 06:07:48 GMT"


def soon(seconds: float = 30.0) -> float:
    return time.monotonic() + seconds


@contextmanager
def store_on(
    *scripts: Script, credentials: Credentials = KEYS, region: str = ""
) -> Iterator[tuple[OssStore, CannedServer]]:
    with CannedServer(*scripts) as server:
        store = OssStore(
            "my-bucket", server.endpoint, StaticCredentials(credentials), region=region
        )
        try:
            yield store, server
        finally:
            store.close()


def xml(status: int, code: str, message: str = "Said so.", *headers: str) -> bytes:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return reply(status, body.encode(), ID, *headers)


def in_header(status: int, code: str) -> bytes:
    """Compose the answer to a HEAD, which has no body: the error travels in x-oss-err."""
    body = f"<Error><Code>{code}</Code><Message>m</Message></Error>".encode()
    return reply(status, b"", ID, f"x-oss-err: {base64.b64encode(body).decode()}")


def read(store: Store, *, offset: int = 0, size: int = 5, if_match: str | None = "E") -> bytes:
    block = bytearray(size)
    store.get_range_into(b"k", offset, [memoryview(block)], if_match=if_match, deadline=soon())
    return bytes(block)


def partial(body: bytes, content_range: str, *headers: str, etag: str = "E") -> bytes:
    return reply(206, body, ID, f"Content-Range: {content_range}", f'ETag: "{etag}"', *headers)


# -- the error table --------------------------------------------------------------------------

ROWS: list[tuple[int, str, type[StoreError]]] = [
    (404, "NoSuchKey", NotFound),
    (404, "SymlinkTargetNotExist", NotFound),
    (404, "NoSuchBucket", NoBucket),
    (404, "NoSuchUpload", NoUpload),
    (404, "NoSuchVersion", StoreError),
    (400, "NoSuchKey", Invalid),
    (403, "NoSuchKey", Denied),
    (410, "NoSuchKey", StoreError),
    (500, "NoSuchKey", Unavailable),
    (502, "NoSuchBucket", Unavailable),
    (503, "NoSuchUpload", Unavailable),
    (500, "AccessDenied", Unavailable),
    (500, "FileAlreadyExists", Unavailable),
    (403, "AccessDenied", Denied),
    (403, "SignatureDoesNotMatch", Denied),
    (403, "InvalidAccessKeyId", Denied),
    (403, "RequestTimeTooSkewed", Denied),
    (403, "SecurityTokenExpired", Expired),
    (403, "InvalidSecurityToken", Expired),
    (403, "InvalidObjectState", Archived),
    (403, "UserDisable", Denied),
    (401, "Unauthorized", Denied),
    (412, "PreconditionFailed", Changed),
    (409, "FileAlreadyExists", Exists),
    (409, "PositionNotEqualToLength", PositionConflict),
    (409, "ObjectNotAppendable", NotAppendable),
    (409, "Whatever", StoreError),
    (400, "InvalidArgument", Invalid),
    (400, "EntityTooSmall", Invalid),
    (400, "InvalidPart", Invalid),
    (400, "InvalidPartOrder", Invalid),
    (400, "EntityTooLarge", TooLarge),
    (400, "InvalidDigest", Corrupt),
    (400, "RequestTimeout", Unavailable),
    (400, "BadRequest", Unavailable),
    (405, "MethodNotAllowed", StoreError),
    (408, "RequestTimeout", Unavailable),
    (413, "EntityTooLarge", TooLarge),
    (429, "QpsLimitExceeded", Throttled),
    (429, "Anything", Throttled),
    (500, "InternalError", Unavailable),
    (502, "BadGateway", Unavailable),
    (503, "ServiceUnavailable", Unavailable),
    (503, "DownloadTrafficRateLimitExceeded", Throttled),
    (503, "UploadTrafficRateLimitExceeded", Throttled),
    (503, "MetaOperationQpsLimitExceeded", Throttled),
    (503, "TotalQpsLimitExceeded", Throttled),
    (503, "ActiveRequestLimitExceeded", Throttled),
    (503, "SlowDown", Throttled),
    (503, "ServiceBusy", Throttled),
    (504, "GatewayTimeout", Unavailable),
]

ELSEWHERE = (
    b"<Error><Code>AccessDenied</Code><Message>The bucket you are attempting to access must be "
    b"addressed using the specified endpoint.</Message><Endpoint>%s</Endpoint></Error>"
)
WAYS: dict[str, Callable[[Store], object]] = {
    "our own way": lambda store: store.list_page(b"", deadline=soon()),
    "through oss2": lambda store: store.get_symlink(b"k", deadline=soon()),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("status", "code", "kind"), ROWS)
def test_an_answer_means_the_same_whichever_way_it_came(
    way: str, status: int, code: str, kind: type[StoreError]
) -> None:
    with store_on([xml(status, code)]) as (store, _):
        with pytest.raises(StoreError) as caught:
            WAYS[way](store)
        error = caught.value
    assert type(error) is kind
    assert (error.status, error.code, error.request_id) == (status, code, "5C3D9175B6FC201293AD")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (in_header(404, "NoSuchKey"), NotFound),
        (in_header(404, "NoSuchBucket"), NoBucket),
        (in_header(404, "SymlinkTargetNotExist"), NotFound),
        (in_header(403, "InvalidObjectState"), Archived),
        (in_header(412, "PreconditionFailed"), Changed),
        (reply(404, b"", ID), NotFound),
        (reply(404, b"", ID, "x-oss-ec: 0026-00000001"), NotFound),
        (reply(404, b"", ID, "x-oss-ec: 0015-00000101"), NoBucket),
        (reply(404, b"", ID, "x-oss-err: not base64!"), Unavailable),
        (reply(404, b"", "x-oss-ec: 0026-00000001"), Unavailable),
        (in_header(404, "NoSuchKey").replace(ID.encode(), b"X: y"), Unavailable),
        (reply(500, b"", ID), Unavailable),
        (reply(404, b""), Unavailable),
        (reply(403, b"", ID), Denied),
        (reply(412, b"", ID), Changed),
        (reply(429, b"", ID), Throttled),
        (reply(503, b""), Unavailable),
        (reply(302, b"", "Location: http://elsewhere/"), StoreError),
    ],
    ids=range(18),
)
@pytest.mark.parametrize("full", [False, True], ids=["meta", "full"])
def test_a_head_is_judged_by_its_headers(answer: bytes, kind: type[StoreError], full: bool) -> None:
    with store_on([answer]) as (store, _), pytest.raises(StoreError) as caught:
        store.head(b"k", full=full, deadline=soon())
    assert type(caught.value) is kind
    assert caught.value.key == b"k"


@pytest.mark.parametrize("full", [False, True], ids=["meta", "full"])
def test_a_head_is_asked_once_more_where_a_kept_connection_was_dead(full: bool) -> None:
    head = reply(200, b"", ID, 'ETag: "E"', DATE, length=7)
    with store_on([head, HANG_UP], [head]) as (store, server):
        for _ in range(2):
            assert store.head(b"k", full=full, deadline=soon()).size == 7
        assert (server.connections, len(server.requests)) == (2, 3)


@pytest.mark.parametrize("way", WAYS)
def test_a_404_of_some_proxy_is_not_absence(way: str) -> None:
    page = reply(404, b"<html>Not Found</html>", "Content-Type: text/html")
    with store_on([page]) as (store, _), pytest.raises(Unavailable, match="proxy"):
        WAYS[way](store)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("code", ["NoSuchKey", "NoSuchBucket", "NoSuchUpload"])
def test_a_404_without_a_request_id_is_not_absence_whatever_it_says(way: str, code: str) -> None:
    anonymous = xml(404, code).replace(ID.encode(), b"x-amz-request-id: 1")
    with store_on([anonymous]) as (store, _), pytest.raises(Unavailable, match="proxy"):
        WAYS[way](store)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("body", [b"", b"<html>Not Found</html>"])
def test_a_404_to_anything_but_a_head_says_what_is_missing_or_is_not_absence(
    way: str, body: bytes
) -> None:
    with store_on([reply(404, body, ID)]) as (store, _), pytest.raises(Unavailable):
        WAYS[way](store)


def test_an_upload_is_not_taken_for_gone_because_a_proxy_says_so() -> None:
    anonymous = xml(404, "NoSuchUpload").replace(ID.encode(), b"Via: proxy")
    with store_on([anonymous]) as (store, _), pytest.raises(Unavailable):
        store.abort_upload(b"k", "id", deadline=soon())


def test_an_unknown_key_id_means_an_expired_token_only_where_there_is_a_token() -> None:
    answer = [xml(403, "InvalidAccessKeyId")]
    with store_on(answer) as (store, _), pytest.raises(Denied) as caught:
        read(store)
    assert not isinstance(caught.value, Expired)
    with store_on(answer, credentials=TEMPORARY) as (store, _), pytest.raises(Expired):
        read(store)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("status", [301, 307, 403])
def test_a_bucket_that_belongs_to_another_endpoint_says_to_which(way: str, status: int) -> None:
    answer = reply(status, ELSEWHERE % b"oss-cn-beijing.aliyuncs.com", ID)
    with store_on([answer]) as (store, _), pytest.raises(Elsewhere) as caught:
        WAYS[way](store)
    assert caught.value.endpoint == "oss-cn-beijing.aliyuncs.com"


@pytest.mark.parametrize("endpoint", [b"", b"x y", b"user@host", b"http://host/path"])
def test_an_endpoint_that_is_no_host_is_not_passed_on(endpoint: bytes) -> None:
    answer = reply(403, ELSEWHERE % endpoint, ID)
    with store_on([answer]) as (store, _), pytest.raises(Denied) as caught:
        read(store)
    assert type(caught.value) is Denied


def test_a_signature_for_another_region_is_told_from_other_mistakes() -> None:
    wrong = xml(400, "InvalidArgument", "Invalid signing region in Authorization header.")
    with store_on([wrong]) as (store, _), pytest.raises(WrongRegion):
        read(store)
    with store_on([xml(400, "InvalidArgument", "m")]) as (store, _), pytest.raises(Invalid) as e:
        read(store)
    assert type(e.value) is Invalid


def test_a_wrong_clock_is_named() -> None:
    skewed = [xml(403, "RequestTimeTooSkewed")]
    with store_on(skewed) as (store, _), pytest.raises(Denied, match="clock"):
        read(store)


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("soon", None), ("-7", None)])
def test_a_throttled_request_says_how_long_to_wait(header: str, seconds: float | None) -> None:
    answer = xml(503, "TotalQpsLimitExceeded", "m", f"Retry-After: {header}")
    with store_on([answer]) as (store, _), pytest.raises(Throttled) as caught:
        store.delete(b"k", deadline=soon())
    assert caught.value.retry_after == seconds


def test_retry_after_may_be_a_date() -> None:
    answer = xml(503, "SlowDown", "m", "Retry-After: Fri, 24 Feb 2012 06:07:48 GMT")
    with store_on([answer]) as (store, _), pytest.raises(Throttled) as caught:
        store.delete(b"k", deadline=soon())
    assert caught.value.retry_after == 0.0


@pytest.mark.parametrize(
    ("header", "position"), [("123", 123), ("", None), ("x", None), ("9" * 5_000, None)]
)
def test_an_append_elsewhere_than_at_the_end_says_where_the_end_is(
    header: str, position: int | None
) -> None:
    extra = [f"x-oss-next-append-position: {header}"] if header else []
    answer = xml(409, "PositionNotEqualToLength", "m", *extra)
    with store_on([answer]) as (store, _), pytest.raises(PositionConflict) as caught:
        store.append(b"k", 5, [b"x"], deadline=soon())
    assert caught.value.next_position == position


def test_the_missing_bucket_is_named() -> None:
    missing = [xml(404, "NoSuchBucket")]
    with store_on(missing) as (store, _), pytest.raises(NoBucket, match="'my-bucket'"):
        store.probe(b"", deadline=soon())


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.create_upload(b"k", deadline=soon()),
        lambda store: store.list_uploads(b"", deadline=soon()),
        lambda store: store.list_page(b"", deadline=soon()),
        lambda store: store.delete_many([b"k"], deadline=soon()),
        lambda store: store.get_symlink(b"k", deadline=soon()),
        lambda store: store.head(b"k", deadline=soon()),
        lambda store: store.put(b"k", [b"x"], deadline=soon()),
        lambda store: store.append(b"k", 0, [b"x"], deadline=soon()),
        lambda store: store.copy(b"a", b"b", deadline=soon()),
        lambda store: store.complete_upload(b"k", "id", [UploadPart(1, "E")], deadline=soon()),
    ],
    ids=range(10),
)
@pytest.mark.parametrize("body", [b"", b"<html>", b"<Wrong></Wrong>"])
def test_a_success_that_makes_no_sense_is_unavailable(
    call: Callable[[Store], object], body: bytes
) -> None:
    with store_on([reply(200, body, ID)]) as (store, _), pytest.raises(Unavailable):
        call(store)


DIGITS = "9" * 5_000
FAR = "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"


def headers_only(*headers: str) -> bytes:
    """Compose an answer whose Content-Length is among the headers, or absent."""
    return "\r\n".join(("HTTP/1.1 200 OK", ID, *headers, "", "")).encode()


@pytest.mark.parametrize(
    "headers",
    [
        ("Content-Length: 5", f"Last-Modified: {FAR}"),
        ("Content-Length: 5", "Last-Modified: 1 Jan 2025 00:00:00 +99999999999999999999999999"),
        ("Content-Length: 5", "Last-Modified: yesterday"),
        ("Content-Length: -5", DATE),
        ("Content-Length: 5_0", DATE),
        ("Content-Length: ٥", DATE),
        (f"Content-Length: {DIGITS}", DATE),
        ("Content-Length: 5", DATE, "x-oss-hash-crc64ecma: -1"),
        ("Content-Length: 5", DATE, f"x-oss-hash-crc64ecma: {DIGITS}"),
        (DATE,),
    ],
    ids=range(10),
)
@pytest.mark.parametrize("full", [False, True], ids=["meta", "full"])
def test_a_head_with_a_number_or_date_that_is_none_is_unavailable(
    headers: tuple[str, ...], full: bool
) -> None:
    with store_on([headers_only('ETag: "E"', *headers)]) as (store, _), pytest.raises(Unavailable):
        store.head(b"k", full=full, deadline=soon())


@pytest.mark.parametrize("encoding", ["foo", "utf-7", "big5", "hex"])
def test_a_page_in_an_encoding_nobody_knows_is_unavailable(encoding: str) -> None:
    page = f"<?xml version='1.0' encoding='{encoding}'?><ListBucketResult></ListBucketResult>"
    for way in (*WAYS.values(), lambda store: store.copy(b"a", b"b", deadline=soon()),
                lambda store: store.list_uploads(b"", deadline=soon())):  # fmt: skip
        with store_on([reply(200, page.encode(), ID)]) as (store, _), pytest.raises(Unavailable):
            way(store)


def test_no_answer_in_time_is_the_deadline_whichever_way_the_request_went() -> None:
    for way in (lambda s: s.head(b"k", deadline=soon(0.05)),
                lambda s: s.get_symlink(b"k", deadline=soon(0.05))):  # fmt: skip
        with store_on([SILENCE]) as (store, _), pytest.raises(DeadlineExceeded) as caught:
            way(store)
        assert caught.value.key == b"k"


def test_the_token_of_a_page_goes_back_as_the_server_means_it() -> None:
    page = (
        "<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>{more}</IsTruncated>"
        "<NextContinuationToken>Cgt4L3krPQ%3D%3D</NextContinuationToken></ListBucketResult>"
    )
    pages = [reply(200, page.format(more=more).encode(), ID) for more in ("true", "false")]
    with store_on(pages) as (store, server):
        first = store.list_page(b"", deadline=soon())
        assert store.list_page(b"", token=first.next_token, deadline=soon()).next_token is None
    assert b"&continuation-token=Cgt4L3krPQ%3D%3D " in server.requests[1]


# -- ranged reads -----------------------------------------------------------------------------


def test_a_ranged_get_asks_for_exactly_its_bytes_of_exactly_its_version() -> None:
    with store_on([partial(b"hello", "bytes 10-14/100")]) as (store, server):
        block = bytearray(5)
        filled: list[int] = []
        answer = store.get_range_into(
            b"a b/%",
            10,
            [memoryview(block)[:2], memoryview(block)[2:]],
            if_match="E",
            on_filled=filled.append,
            deadline=soon(),
        )
    assert (bytes(block), filled) == (b"hello", [0, 1])
    assert answer == ("E", 100)
    head = server.requests[0]
    assert head.startswith(b"GET /my-bucket/a%20b%2F%25 HTTP/1.1\r\n")
    for line in (
        b"Range: bytes=10-14",
        b'If-Match: "E"',
        b"x-oss-range-behavior: standard",
    ):
        assert b"\r\n" + line + b"\r\n" in head


def test_the_whole_object_is_as_good_as_its_range() -> None:
    with store_on([reply(200, b"hello", ID, 'ETag: "E"')]) as (store, _):
        assert read(store) == b"hello"


def test_the_whole_object_is_no_range_from_its_middle() -> None:
    with store_on([reply(200, b"hello", ID, 'ETag: "E"')]) as (store, _):
        block = bytearray(b"-----")
        with pytest.raises(Unavailable, match="ignores ranges"):
            store.get_range_into(b"k", 5, [memoryview(block)], if_match="E", deadline=soon())
        assert block == b"-----"


def test_a_chunked_range_is_taken_by_its_content_range() -> None:
    raw = (
        b'HTTP/1.1 206 Partial\r\nETag: "E"\r\nContent-Range: bytes 0-4/9\r\n'
        b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
    )
    with store_on([raw]) as (store, _):
        assert read(store) == b"hello"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (partial(b"hello", "bytes 0-4/9", etag="OTHER"), Changed),
        (partial(b"hel", "bytes 0-2/3"), Truncated),
        (reply(200, b"hel", ID, 'ETag: "E"'), Truncated),
        (reply(200, b"hello world", ID, 'ETag: "E"'), Unavailable),
        (partial(b"hello", "bytes 1-5/9"), Unavailable),
        (partial(b"hello", "bytes 0-4/*"), Unavailable),
        (partial(b"hello", "bytes 0-4/4"), Unavailable),
        (partial(b"hello!", "bytes 0-4/9"), Unavailable),
        (partial(b"hello!", "bytes 0-5/9"), Unavailable),
        (partial(b"hello", "items 0-4/9"), Unavailable),
        (partial(b"hello", f"bytes 0-4/{'9' * 5_000}"), Unavailable),
        (headers_only('ETag: "E"', f"Content-Length: {'9' * 5_000}"), Unavailable),
        (headers_only('ETag: "E"', "Content-Length: -5"), Unavailable),
        (headers_only('ETag: "E"', "Content-Length: 0_5"), Unavailable),
        (reply(206, b"hello", ID, 'ETag: "E"'), Unavailable),
        (reply(206, b"hello", ID, "Content-Range: bytes 0-4/9"), Unavailable),
        (reply(201, b"hello", ID, 'ETag: "E"'), Unavailable),
        (b'HTTP/1.1 200 OK\r\nETag: "E"\r\n\r\nhello', Unavailable),
        (xml(412, "PreconditionFailed"), Changed),
        (xml(416, "InvalidRange"), Changed),
    ],
    ids=range(20),
)
def test_a_reply_that_is_not_what_was_asked_for_touches_no_buffer(
    answer: bytes, kind: type[StoreError]
) -> None:
    with store_on([answer]) as (store, _):
        block = bytearray(b"-----")
        filled: list[int] = []
        with pytest.raises(StoreError) as caught:
            store.get_range_into(
                b"k",
                0,
                [memoryview(block)],
                if_match="E",
                on_filled=filled.append,
                deadline=soon(),
            )
    assert type(caught.value) is kind
    assert caught.value.key == b"k"
    assert (block, filled) == (b"-----", [])


def test_a_range_past_the_end_of_any_version_is_the_callers_mistake() -> None:
    with store_on([xml(416, "InvalidRange")]) as (store, _), pytest.raises(Invalid):
        read(store, offset=50, if_match=None)


def test_a_body_that_ends_early_is_truncated() -> None:
    cut = partial(b"hel", "bytes 0-4/9").replace(b"Content-Length: 3", b"Content-Length: 5")
    with store_on([cut, CLOSE]) as (store, _), pytest.raises(Truncated) as caught:
        read(store)
    assert caught.value.key == b"k"


def test_an_empty_range_is_never_sent() -> None:
    with store_on([]) as (store, server):
        with pytest.raises(Invalid):
            read(store, size=0)
        assert server.connections == 0


# -- uploads ----------------------------------------------------------------------------------


def stored(data: bytes, *headers: str) -> bytes:
    crc = f"x-oss-hash-crc64ecma: {crc64([data])}"
    return reply(200, b"", ID, 'ETag: "E"', crc, *headers)


def test_an_upload_sends_what_it_was_given_and_returns_the_servers_crc() -> None:
    options = PutOptions("text/plain", {"Mode": "33188"}, forbid_overwrite=True, storage_class="IA")
    with store_on([stored(b"hello")]) as (store, server):
        made = store.put(b"k", [b"he", memoryview(b"llo")], options, deadline=soon())
    assert made == ("E", crc64([b"hello"]))
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert body == b"hello"
    for line in (
        b"content-type: text/plain",
        b"x-oss-meta-mode: 33188",
        b"x-oss-forbid-overwrite: true",
        b"x-oss-storage-class: IA",
        b"Content-Length: 5",
    ):
        assert b"\r\n" + line in head


@pytest.mark.parametrize(
    "upload",
    [
        lambda store: store.put(b"k", [b"hello"], deadline=soon()),
        lambda store: store.upload_part(b"k", "id", 1, [b"hello"], deadline=soon()),
    ],
    ids=["object", "part"],
)
def test_an_upload_that_arrived_damaged_is_corrupt(upload: Callable[[Store], object]) -> None:
    with store_on([stored(b"hellx")]) as (store, _), pytest.raises(Corrupt, match="CRC-64"):
        upload(store)


def test_a_server_without_crc_is_taken_at_its_word() -> None:
    with store_on([reply(200, b"", ID, 'ETag: "E"')]) as (store, _):
        assert store.put(b"k", [b"hello"], deadline=soon()) == ("E", None)


def test_the_etag_of_a_copy_may_be_in_the_body() -> None:
    body = b'<CopyPartResult><ETag>"F"</ETag></CopyPartResult>'
    with store_on([reply(200, body, ID)]) as (store, server):
        made = store.copy_part(b"k", "id", 1, b"s/x", 5, 7, if_match="E", deadline=soon())
    assert made == ("F", None)
    for line in (
        b"x-oss-copy-source: /my-bucket/s%2Fx",
        b"x-oss-copy-source-range: bytes=5-11",
        b'x-oss-copy-source-if-match: "E"',
    ):
        assert line in server.requests[0]


def test_a_put_that_must_not_overwrite_is_not_sent_twice() -> None:
    options = PutOptions(forbid_overwrite=True)
    with store_on([stored(b"a"), HANG_UP], [stored(b"b")]) as (store, server):
        store.put(b"k", [b"a"], deadline=soon())
        with pytest.raises(Unavailable):
            store.put(b"k", [b"b"], options, deadline=soon())
        assert len(server.requests) == 2


def test_an_append_is_not_sent_twice() -> None:
    with store_on([stored(b"a"), HANG_UP], [stored(b"b")]) as (store, server):
        store.put(b"k", [b"a"], deadline=soon())
        with pytest.raises(Unavailable):
            store.append(b"k", 0, [b"b"], deadline=soon())
        assert len(server.requests) == 2


def test_a_completion_is_not_sent_twice() -> None:
    with store_on([stored(b"a"), HANG_UP], [stored(b"b")]) as (store, server):
        store.put(b"k", [b"a"], deadline=soon())
        with pytest.raises(Unavailable):
            store.complete_upload(b"k", "id", [UploadPart(1, "E")], deadline=soon())
        assert len(server.requests) == 2


COPIED = b'<Result><ETag>"E"</ETag></Result>'


@pytest.mark.parametrize(
    ("call", "patient"),
    [
        (lambda store: store.copy(b"a", b"b", deadline=soon()), True),
        (
            lambda store: store.copy_part(b"k", "id", 1, b"s", 0, 7, if_match="E", deadline=soon()),
            True,
        ),
        (
            lambda store: store.complete_upload(b"k", "id", [UploadPart(1, "E")], deadline=soon()),
            True,
        ),
        (lambda store: store.put_symlink(b"k", b"t", deadline=soon()), False),
    ],
    ids=["copy", "copy_part", "complete_upload", "put_symlink"],
)
def test_silence_is_borne_only_where_the_server_works_in_silence(
    call: Callable[[Store], object], patient: bool
) -> None:
    def slowly(request: bytes) -> bytes:
        time.sleep(0.4)
        return reply(200, COPIED, ID)

    with store_on([slowly]) as (store, _):
        store._transport._read_timeout = 0.1
        if patient:
            call(store)
        else:
            with pytest.raises(Silent, match="silent"):
                call(store)


def test_objects_left_undeleted_are_reported() -> None:
    body = b"<DeleteResult><Deleted><Key>a</Key></Deleted></DeleteResult>"
    answer = [reply(200, body, ID)]
    with store_on(answer) as (store, _), pytest.raises(Unavailable, match="1 of 2") as caught:
        store.delete_many([b"a", b"b"], deadline=soon())
    assert caught.value.key == b"b"


def test_a_key_that_xml_cannot_hold_is_deleted_by_itself() -> None:
    with store_on([reply(204, b"", ID), reply(204, b"", ID)]) as (store, server):
        store.delete_many([b"cr\rlf", b"bell\x07"], deadline=soon())
    lines = [request.partition(b" HTTP")[0] for request in server.requests]
    assert lines == [b"DELETE /my-bucket/cr%0Dlf", b"DELETE /my-bucket/bell%07"]


def test_uploads_in_progress_are_listed_to_the_last_page() -> None:
    page = (
        "<ListMultipartUploadsResult><EncodingType>url</EncodingType>"
        "<NextKeyMarker>{marker}</NextKeyMarker><NextUploadIdMarker>{id}</NextUploadIdMarker>"
        "<IsTruncated>{more}</IsTruncated><Upload><Key>a%2F{id}</Key><UploadId>{id}</UploadId>"
        "<Initiated>1970-01-01T00:00:09.000Z</Initiated></Upload></ListMultipartUploadsResult>"
    )
    first = page.format(marker="a%2F1", id="1", more="true").encode()
    second = page.format(marker="", id="2", more="false").encode()
    with store_on([reply(200, first, ID), reply(200, second, ID)]) as (store, server):
        found = store.list_uploads(b"a/", deadline=soon())
    assert found == [(b"a/1", "1", 9), (b"a/2", "2", 9)]
    assert b"key-marker=a%2F1" in server.requests[1]
    assert b"upload-id-marker=1" in server.requests[1]


@pytest.mark.parametrize(
    "options",
    [
        PutOptions(content_type="a\r\nX-Injected: b"),
        PutOptions(metadata={"a": "b\nc"}),
        PutOptions(metadata={"a b": "c"}),
        PutOptions(metadata={"a:": "c"}),
        PutOptions(metadata={"a": " b"}),
        PutOptions(metadata={"a": "x" * 8_192}),
        PutOptions(storage_class="IA\r\n"),
    ],
    ids=range(7),
)
def test_what_cannot_travel_in_a_header_is_refused_before_it_is_sent(options: PutOptions) -> None:
    with store_on([]) as (store, server):
        with pytest.raises(Invalid):
            store.put(b"k", [b""], options, deadline=soon())
        with pytest.raises(Invalid):
            store.create_upload(b"k", options, deadline=soon())
        with pytest.raises(Invalid):
            store.append(b"k", 0, [b""], options, deadline=soon())
        assert server.connections == 0


# -- secrets ----------------------------------------------------------------------------------


@pytest.mark.parametrize("region", ["", "cn-hangzhou"], ids=["V1", "V4"])
def test_no_secret_is_in_any_error_or_log(region: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    echo = "<StringToSign>PUT x-oss-security-token:" + TOKEN + "</StringToSign>"
    answer = (
        f"<Error><Code>SignatureDoesNotMatch</Code><Message>m</Message>{echo}</Error>"
    ).encode()
    script = [reply(403, answer, ID)] * 3 + [HANG_UP]
    errors = []
    with store_on(script, credentials=TEMPORARY, region=region) as (store, server):
        for call in (
            lambda: store.put(b"k", [b"x"], deadline=soon()),
            lambda: store.get_symlink(b"k", deadline=soon()),
            lambda: store.append(b"k", 0, [b"x"], deadline=soon()),
            lambda: store.append(b"k", 0, [b"x"], deadline=soon()),
        ):
            with pytest.raises(StoreError) as caught:
                call()
            errors.append(caught.value)
        assert all(TOKEN.encode() in request for request in server.requests)
        assert not any(SECRET.encode() in request for request in server.requests)
    text = caplog.text
    for error in errors:
        link: BaseException | None = error
        while link is not None:
            text += f"{link} {link!r} {vars(link)}"
            link = link.__cause__ or link.__context__
    for secret in (SECRET, TOKEN, "Authorization", "Signature=", "OSS STS.key-id:"):
        assert secret not in text


# -- where the bucket is ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "path_style", "origin", "path"),
    [
        ("oss-cn-x.aliyuncs.com", False, ("http", "b-1.oss-cn-x.aliyuncs.com", 80), "/"),
        ("https://oss-cn-x.aliyuncs.com/", False, ("https", "b-1.oss-cn-x.aliyuncs.com", 443), "/"),
        ("http://minio:9000", False, ("http", "b-1.minio", 9000), "/"),
        ("http://minio:9000", True, ("http", "minio", 9000), "/b-1/"),
        ("127.0.0.1:9000", False, ("http", "127.0.0.1", 9000), "/b-1/"),
        ("https://10.0.0.1", False, ("https", "10.0.0.1", 443), "/b-1/"),
        ("http://localhost:9000", False, ("http", "localhost", 9000), "/b-1/"),
        ("http://[::1]:9000", False, ("http", "::1", 9000), "/b-1/"),
        (" OSS-CN-X.Aliyuncs.com ", False, ("http", "b-1.oss-cn-x.aliyuncs.com", 80), "/"),
    ],
)
def test_an_endpoint_is_read_as_users_write_it(
    text: str, path_style: bool, origin: tuple[str, str, int], path: str
) -> None:
    assert Endpoint.parse(text, "b-1", path_style=path_style) == Endpoint(Origin(*origin), path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "host"),
        ("ftp://host", "neither http nor https"),
        ("http://user:hunter2@host", "nothing more"),
        ("http://host/path", "nothing more"),
        ("http://host?x", "nothing more"),
        ("http://host:0", "port"),
        ("http://host:70000", "port"),
        ("http://host:abc", "port"),
        ("http://[::1", "malformed"),
        ("http://ho st", "host name"),
        ("http://-host", "host name"),
        ("http://my-bucket.oss-cn-x.aliyuncs.com", "leave out"),
    ],
)
def test_a_malformed_endpoint_is_refused_with_its_reason(text: str, said: str) -> None:
    with pytest.raises(Invalid, match=said) as caught:
        Endpoint.parse(text, "my-bucket")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "bucket", ["", "ab", "a" * 64, "Upper", "under_score", "-ab", "ab-", "a.b", "a/b", "abc\n"]
)
def test_a_malformed_bucket_name_is_refused_with_the_rule(bucket: str) -> None:
    with pytest.raises(Invalid, match="3 to 63"):
        OssStore(bucket, "oss-cn-x.aliyuncs.com", StaticCredentials(KEYS))


def test_the_host_header_names_bucket_and_port() -> None:
    assert Origin("http", "b.h", 80).authority == "b.h"
    assert Origin("https", "b.h", 443).authority == "b.h"
    assert Origin("https", "b.h", 80).authority == "b.h:80"
    assert Origin("http", "::1", 9000).authority == "[::1]:9000"


def test_a_key_no_store_can_hold_is_absent_to_lookups_and_invalid_to_mutations() -> None:
    with store_on([]) as (store, server):
        for key in (b"", b"\xff", b"k" * 1_024):
            with pytest.raises(NotFound):
                store.head(key, deadline=soon())
            with pytest.raises(Invalid):
                store.put(key, [b""], deadline=soon())
        assert server.connections == 0


def test_the_region_may_be_written_as_in_endpoints() -> None:
    head = reply(200, b"", ID, 'ETag: "E"', DATE, length=7)
    with store_on([head], region="oss-cn-hangzhou") as (store, server):
        assert store.head(b"k", deadline=soon()).mtime == 1330063668
    assert b"/cn-hangzhou/oss/aliyun_v4_request" in server.requests[0]
