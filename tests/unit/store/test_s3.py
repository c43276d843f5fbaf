"""S3Store against a server that answers from a script: what S3, MinIO and SeaweedFS say.

The answers are as those servers give them, by their documentation and source; only SeaweedFS can
be run here, and what a sound server does is the conformance suite's matter, in tests/store.
"""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from ossfs.credentials import Credentials, StaticCredentials
from ossfs.store.api import ListEntry, PutOptions, UploadPart
from ossfs.store.errors import (
    Archived,
    Changed,
    Corrupt,
    Denied,
    Elsewhere,
    Exists,
    Expired,
    Invalid,
    NoBucket,
    NotFound,
    NoUpload,
    StoreError,
    Throttled,
    TooLarge,
    Unavailable,
    WrongRegion,
)
from ossfs.store.listing import S3, parse_page, parse_page_strictly
from ossfs.store.s3 import S3Store
from ossfs.store.wire import etag_of_parts
from tests.support.canned import CannedServer, Script, reply

SECRET = "very-secret-key"
TOKEN = "very-secret-token"
KEYS = Credentials("key-id", SECRET)
TEMPORARY = Credentials("ASIA-key-id", SECRET, token=TOKEN)
ID = "x-amz-request-id: 4442587FB7D0A2F9"
DATE = "Last-Modified: Fri, 24 Feb 2012 06:07:48 GMT"
NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


def soon() -> float:
    return time.monotonic() + 30


def md5(body: bytes) -> str:
    return hashlib.md5(body).hexdigest()


@contextmanager
def store_on(
    *scripts: Script, credentials: Credentials = KEYS, region: str = ""
) -> Iterator[tuple[S3Store, CannedServer]]:
    with CannedServer(*scripts) as server:
        store = S3Store("my-bucket", server.endpoint, StaticCredentials(credentials), region=region)
        try:
            yield store, server
        finally:
            store.close()


def refusal(
    call: Callable[[S3Store], object],
    *scripts: Script,
    credentials: Credentials = KEYS,
    region: str = "",
) -> StoreError:
    """Return what a call fails with."""
    with store_on(*scripts, credentials=credentials, region=region) as (store, _):
        try:
            call(store)
        except StoreError as error:
            return error
    raise AssertionError("it did not fail")


def xml(status: int, code: str, more: str = "", *headers: str) -> bytes:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>m</Message>{more}</Error>"
    return reply(status, body.encode(), ID, *headers)


def page(*parts: str, more: str = "<IsTruncated>false</IsTruncated>") -> bytes:
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult {NAMESPACE}>'
        "<Name>my-bucket</Name>"
        f"<Prefix>d%2F</Prefix><KeyCount>1</KeyCount><MaxKeys>1000</MaxKeys>"
        f"<Delimiter>%2F</Delimiter><EncodingType>url</EncodingType>{more}{''.join(parts)}"
        "</ListBucketResult>"
    ).encode()


EMPTY = reply(200, page(), ID)

# -- the error table --------------------------------------------------------------------------

ROWS: list[tuple[int, str, type[StoreError]]] = [
    (404, "NoSuchKey", NotFound),
    (404, "NoSuchBucket", NoBucket),
    (404, "NoSuchUpload", NoUpload),
    (404, "NoSuchVersion", StoreError),
    (500, "NoSuchKey", Unavailable),
    (500, "InternalError", Unavailable),
    (503, "SlowDown", Throttled),
    (503, "ServiceUnavailable", Unavailable),
    (503, "XMinioServerNotInitialized", Unavailable),
    (507, "XMinioStorageFull", Unavailable),
    (403, "AccessDenied", Denied),
    (403, "InvalidAccessKeyId", Denied),
    (403, "SignatureDoesNotMatch", Denied),
    (403, "RequestTimeTooSkewed", Denied),
    (400, "ExpiredToken", Expired),
    (403, "InvalidTokenId", Expired),
    (403, "InvalidObjectState", Archived),
    (412, "PreconditionFailed", Changed),
    (409, "ConditionalRequestConflict", Unavailable),
    (409, "OperationAborted", Unavailable),
    (400, "EntityTooLarge", TooLarge),
    (400, "EntityTooSmall", Invalid),
    (400, "InvalidPart", Invalid),
    (400, "KeyTooLongError", Invalid),
    (400, "BadDigest", Corrupt),
    (400, "XAmzContentSHA256Mismatch", Corrupt),
    (400, "RequestTimeout", Unavailable),
    (400, "AuthorizationHeaderMalformed", Invalid),
    (301, "PermanentRedirect", Denied),
    (307, "TemporaryRedirect", Unavailable),
]


@pytest.mark.parametrize(("status", "code", "kind"), ROWS, ids=lambda value: str(value))
def test_what_a_code_means(status: int, code: str, kind: type[StoreError]) -> None:
    with store_on([xml(status, code)]) as (store, _), pytest.raises(StoreError) as caught:
        store.put(b"k", [b"x"], deadline=soon())
    assert type(caught.value) is kind
    assert (caught.value.code, caught.value.status, caught.value.key) == (code, status, b"k")
    assert SECRET not in repr(caught.value) + str(caught.value)


def test_a_head_says_by_its_status_what_its_body_would() -> None:
    for credentials, status, headers, kind in [
        (KEYS, 404, [ID], NotFound),
        (KEYS, 404, [], Unavailable),  # some proxy
        (KEYS, 403, [ID], Denied),
        (KEYS, 400, [ID], Invalid),
        (TEMPORARY, 400, [ID], Expired),
        (KEYS, 301, [ID, "x-amz-bucket-region: eu-west-1"], WrongRegion),
    ]:
        error = refusal(
            lambda store: store.head(b"k", deadline=soon()),
            [reply(status, b"", *headers)],
            credentials=credentials,
        )
        assert type(error) is kind, (status, headers)


def test_a_key_that_is_unknown_may_have_expired_where_it_was_temporary() -> None:
    for credentials, kind in [(KEYS, Denied), (TEMPORARY, Expired)]:
        error = refusal(
            lambda store: store.delete(b"k", deadline=soon()),
            [xml(403, "InvalidAccessKeyId")],
            credentials=credentials,
        )
        assert type(error) is kind


# -- regions ----------------------------------------------------------------------------------

MALFORMED = xml(400, "AuthorizationHeaderMalformed", "<Region>eu-west-1</Region>")


def test_without_a_region_the_one_that_the_server_names_is_taken() -> None:
    with store_on([MALFORMED, EMPTY, reply(200, b"", ID), EMPTY]) as (store, server):
        store.probe(b"", deadline=soon())
        store.list_page(b"", deadline=soon())
    scopes = [re.search(rb"/([a-z0-9-]+)/s3/aws4_request", one) for one in server.requests]
    assert [scope[1] for scope in scopes if scope] == [b"us-east-1"] + [b"eu-west-1"] * 3


def test_a_region_that_was_given_is_kept_and_the_right_one_named() -> None:
    error = refusal(
        lambda store: store.probe(b"", deadline=soon()), [MALFORMED], region="us-west-2"
    )
    assert isinstance(error, WrongRegion)
    assert error.region == "eu-west-1"


def test_a_redirect_names_the_region_or_the_endpoint() -> None:
    host = "<Endpoint>my-bucket.s3-eu-west-1.amazonaws.com</Endpoint>"
    for headers, kind in [(["x-amz-bucket-region: eu-west-1"], WrongRegion), ([], Elsewhere)]:
        error = refusal(
            lambda store: store.list_page(b"", deadline=soon()),
            [xml(301, "PermanentRedirect", host, *headers)],
            region="us-east-1",
        )
        assert type(error) is kind


def test_a_session_token_travels_and_is_signed() -> None:
    with store_on([EMPTY], credentials=TEMPORARY) as (store, server):
        store.list_page(b"", deadline=soon())
    [request] = server.requests
    assert f"x-amz-security-token: {TOKEN}\r\n".encode() in request
    assert b"SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token" in request
    assert SECRET.encode() not in request


# -- integrity --------------------------------------------------------------------------------


def test_an_upload_carries_its_md5_and_the_etag_must_be_it() -> None:
    good, bad = f'ETag: "{md5(b"data")}"', f'ETag: "{md5(b"other")}"'
    with store_on([reply(200, b"", ID, good), reply(200, b"", ID, bad)]) as (store, server):
        assert store.put(b"k", [b"da", b"ta"], deadline=soon()).etag == md5(b"data")
        with pytest.raises(Corrupt) as caught:
            store.upload_part(b"k", "U", 1, [b"data"], deadline=soon())
    assert caught.value.etag == md5(b"other")
    sent = base64.b64encode(hashlib.md5(b"data").digest())
    assert all(b"content-md5: " + sent in request for request in server.requests)


@pytest.mark.parametrize(
    "header",
    [
        "x-amz-server-side-encryption: aws:kms",
        "x-amz-server-side-encryption-customer-algorithm: AES256",
    ],
)
def test_an_etag_that_is_made_of_cipher_text_says_nothing(header: str) -> None:
    with store_on([reply(200, b"", ID, 'ETag: "0123"', header)]) as (store, _):
        assert store.put(b"k", [b"data"], deadline=soon()).etag == "0123"


PARTS = [UploadPart(1, md5(b"a")), UploadPart(2, md5(b"b"))]


def completed(etag: str) -> bytes:
    body = f"<CompleteMultipartUploadResult {NAMESPACE}><ETag>&quot;{etag}&quot;</ETag>"
    return reply(200, f"{body}</CompleteMultipartUploadResult>".encode(), ID)


def test_a_completed_upload_has_the_etag_of_its_parts() -> None:
    joined = hashlib.md5(b"a").digest() + hashlib.md5(b"b").digest()
    right = f"{md5(joined)}-2"
    assert etag_of_parts(PARTS) == right
    assert etag_of_parts([UploadPart(1, "x-2")]) == ""
    with store_on([completed(right), completed("0" * 32 + "-2")]) as (store, _):
        assert store.complete_upload(b"k", "U", PARTS, deadline=soon()).etag == right
        with pytest.raises(Corrupt):
            store.complete_upload(b"k", "U", PARTS, deadline=soon())


LATE: list[tuple[str, type[StoreError]]] = [
    ("InternalError", Unavailable),
    ("SlowDown", Throttled),
    ("NoSuchUpload", NoUpload),
    ("PreconditionFailed", Changed),
    ("NoSuchBucket", NoBucket),
    ("InvalidPart", Invalid),
    ("AccessDenied", Denied),
    ("ServiceUnavailable", Unavailable),
    ("XMinioServerNotInitialized", Unavailable),
]


@pytest.mark.parametrize(("code", "kind"), LATE)
@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.complete_upload(b"k", "U", PARTS, deadline=soon()),
        lambda store: store.copy(b"k", b"t", deadline=soon()),
        lambda store: store.copy_part(b"t", "U", 1, b"k", 0, 9, if_match="E", deadline=soon()),
    ],
    ids=["complete", "copy", "copy part"],
)
def test_a_success_may_turn_out_to_be_none(
    call: Callable[[S3Store], object], code: str, kind: type[StoreError]
) -> None:
    absent = reply(404, b"", ID)  # where it is looked for what is in the way
    error = refusal(call, [xml(200, code), absent], [absent])
    assert (type(error), error.key) == (kind, b"k")


# -- listings ---------------------------------------------------------------------------------

AWS = (
    "<Contents><Key>d%2Fa+b%2Bc</Key><LastModified>2012-02-24T08:43:07.000Z</LastModified>"
    "<ETag>&quot;9a0364b9e99bb480dd25e1f0284c8555&quot;</ETag><ChecksumAlgorithm>CRC64NVME"
    "</ChecksumAlgorithm><Size>7</Size><StorageClass>STANDARD</StorageClass></Contents>"
)
MINIO = (
    "<Contents><Key>d%2Fa+b%2Bc</Key><LastModified>2012-02-24T08:43:07.000Z</LastModified>"
    "<ETag>&#34;9a0364b9e99bb480dd25e1f0284c8555&#34;</ETag><Size>7</Size>"
    "<Owner><ID>02d6</ID><DisplayName>minio</DisplayName></Owner>"
    "<StorageClass>STANDARD</StorageClass></Contents>"
)
SEAWEED = (
    "<Contents><Key>d%2Fa+b%2Bc</Key><ETag>&#34;9a0364b9e99bb480dd25e1f0284c8555&#34;</ETag>"
    "<Size>7</Size><StorageClass>STANDARD</StorageClass>"
    "<LastModified>2012-02-24T08:43:07Z</LastModified></Contents>"
)


@pytest.mark.parametrize("entry", [AWS, MINIO, SEAWEED], ids=["AWS", "MinIO", "SeaweedFS"])
def test_a_page_of_each_server_says_the_same(entry: str) -> None:
    body = page(entry, "<CommonPrefixes><Prefix>d%2Fx+y%2F</Prefix></CommonPrefixes>")
    found = parse_page(body, S3)
    assert found == parse_page_strictly(body, S3)
    wanted = ListEntry(b"d/a b+c", 7, 1_330_072_987, "9a0364b9e99bb480dd25e1f0284c8555")
    assert (list(found.entries), list(found.prefixes)) == ([wanted], [b"d/x y/"])


def test_a_continuation_token_is_taken_as_it_is() -> None:
    token = "1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM=%2B"
    more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>"
    assert parse_page(page(AWS, more=more), S3).next_token == token


def test_a_listing_that_stands_still_is_an_error() -> None:
    more = "<IsTruncated>true</IsTruncated><NextContinuationToken>T</NextContinuationToken>"
    error = refusal(
        lambda store: store.list_page(b"d/", token="T", deadline=soon()),
        [reply(200, page(AWS, more=more), ID)],
    )
    assert "does not move on" in str(error)


def test_uploads_are_listed_over_all_pages() -> None:
    def uploads(key: str, more: str) -> bytes:
        body = (
            f"<ListMultipartUploadsResult {NAMESPACE}><EncodingType>url</EncodingType>{more}"
            f"<Upload><Key>{key}</Key><UploadId>U-{key}</UploadId>"
            "<Initiated>2012-02-24T08:43:07.000Z</Initiated></Upload></ListMultipartUploadsResult>"
        )
        return reply(200, body.encode(), ID)

    first = "<IsTruncated>true</IsTruncated><NextKeyMarker>d%2Fb</NextKeyMarker>"
    first += "<NextUploadIdMarker>U1</NextUploadIdMarker>"
    script = [uploads("d%2Fb", first), uploads("d%2Fa+a", "<IsTruncated>false</IsTruncated>")]
    with store_on(script) as (store, server):
        found = store.list_uploads(b"d/", deadline=soon())
    assert [(one.key, one.initiated) for one in found] == [
        (b"d/a a", 1_330_072_987),
        (b"d/b", 1_330_072_987),
    ]
    assert b"key-marker=d%2Fb&upload-id-marker=U1" in server.requests[1]


# -- deletes ----------------------------------------------------------------------------------


def deleted(*names: str, error: tuple[str, str] | None = None) -> bytes:
    body = "".join(f"<Deleted><Key>{name}</Key></Deleted>" for name in names)
    if error:
        body += f"<Error><Key>{error[0]}</Key><Code>{error[1]}</Code></Error>"
    return reply(200, f"<DeleteResult {NAMESPACE}>{body}</DeleteResult>".encode(), ID)


def test_many_deletes_carry_the_md5_that_s3_insists_on() -> None:
    with store_on([deleted("a", "b")]) as (store, server):
        store.delete_many([b"a", b"b"], deadline=soon())
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert base64.b64encode(hashlib.md5(body).digest()) in head


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (("b", "AccessDenied"), Denied),
        (("b", "InternalError"), Unavailable),
        (None, Unavailable),
        (("b", "NoSuchKey"), None),
    ],
)
def test_what_was_not_deleted_is_told(
    error: tuple[str, str] | None, kind: type[StoreError] | None
) -> None:
    with store_on([deleted("a", error=error)]) as (store, _):
        if kind is None:
            store.delete_many([b"a", b"b"], deadline=soon())
            return
        with pytest.raises(StoreError) as caught:
            store.delete_many([b"a", b"b"], deadline=soon())
    assert type(caught.value) is kind
    assert caught.value.key == b"b"


# -- exclusive, and SeaweedFS's directories ---------------------------------------------------

EXCLUSIVE = PutOptions(forbid_overwrite=True)
REFUSED = xml(412, "PreconditionFailed")
GHOST = reply(200, b"", ID, DATE, 'ETag: "d41d8cd98f00b204e9800998ecf8427e-0"', length=0)
GONE = reply(204, b"", ID)


def test_an_exclusive_put_meets_an_object() -> None:
    with store_on([REFUSED, reply(404, b"", ID)]) as (store, server), pytest.raises(Exists):
        store.put(b"k", [b"x"], EXCLUSIVE, deadline=soon())
    assert b"if-none-match: *" in server.requests[0]


def test_a_directory_of_the_servers_own_is_no_object_and_makes_way() -> None:
    with store_on([GHOST]) as (store, _), pytest.raises(NotFound):
        store.head(b"d/", deadline=soon())
    made = reply(200, b"", ID, f'ETag: "{md5(b"")}"')
    with store_on([REFUSED, GHOST, GONE, made]) as (store, server):
        store.put(b"d/", [b""], EXCLUSIVE, deadline=soon())
    assert [one.split()[0] for one in server.requests] == [b"PUT", b"HEAD", b"DELETE", b"PUT"]
    script = [xml(500, "InternalError"), GHOST, GONE]
    with store_on(script) as (store, server), pytest.raises(Unavailable):
        store.complete_upload(b"d", "U", PARTS, deadline=soon())
    assert server.requests[2].startswith(b"DELETE /my-bucket/d/ ")


def test_a_copy_that_is_refused_says_whose_fault_it_is() -> None:
    same = reply(200, b"", ID, DATE, 'ETag: "E"', length=1)
    other = reply(200, b"", ID, DATE, 'ETag: "F"', length=1)
    for source, kind in [(same, Exists), (other, Changed)]:
        with store_on([REFUSED, source]) as (store, _), pytest.raises(StoreError) as caught:
            store.copy(b"a", b"b", if_match="E", options=EXCLUSIVE, deadline=soon())
        assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("told", "sent"),
    [((), "STANDARD"), (("x-amz-storage-class: STANDARD_IA",), "STANDARD_IA")],
    ids=["standard", "other"],
)
def test_a_storage_class_goes_back_as_s3_calls_it(told: tuple[str, ...], sent: str) -> None:
    there = reply(200, b"", ID, DATE, 'ETag: "e"', *told)
    copied = reply(200, b"<CopyObjectResult><ETag>e</ETag></CopyObjectResult>", ID)
    with store_on([there, copied]) as (store, server):
        info = store.head(b"a", full=True, deadline=soon())
        options = PutOptions(info.content_type, info.metadata, storage_class=info.storage_class)
        store.copy(b"a", b"b", options=options, deadline=soon())
        assert f"x-amz-storage-class: {sent}\r\n".encode() in server.requests[1]


def test_metadata_that_other_programs_have_stored_goes_back() -> None:
    there = reply(200, b"", ID, DATE, 'ETag: "e"', "x-amz-meta-my_key.1: v", "x-amz-meta-who: M?")
    there = there.replace(b"M?", b"M\xfc")
    with store_on([there, reply(200, b"", ID, f'ETag: "{md5(b"x")}"')]) as (store, server):
        metadata = store.head(b"a", full=True, deadline=soon()).metadata
        store.put(b"a", [b"x"], PutOptions(metadata=metadata), deadline=soon())
        assert b"x-amz-meta-my_key.1: v\r\n" in server.requests[1]
        assert b"x-amz-meta-who: M\xfc\r\n" in server.requests[1]
        with pytest.raises(Invalid):
            store.put(b"a", [b"x"], PutOptions(metadata={"my key": "v"}), deadline=soon())


def test_a_marker_is_made_anew_rather_than_copied() -> None:
    marker = reply(200, b"", ID, DATE, f'ETag: "{md5(b"")}"', "x-amz-meta-mode: 16877", length=0)
    made = reply(200, b"", ID, f'ETag: "{md5(b"")}"')
    with store_on([marker, made]) as (store, server):
        store.copy(b"a/", b"b/", deadline=soon())
    assert server.requests[1].startswith(b"PUT /my-bucket/b/ ")
    assert b"x-amz-meta-mode: 16877" in server.requests[1]


@pytest.mark.parametrize(("server", "lingers"), [("SeaweedFS 30GB 4.48", True), ("MinIO", False)])
def test_seaweedfs_is_known_by_its_name(server: str, lingers: bool) -> None:
    with store_on([EMPTY, reply(200, b"", ID, f"Server: {server}")]) as (store, _):
        store.probe(b"", deadline=soon())
        assert store.capabilities.directories_linger is lingers
