"""PutObject, GetObject, HeadObject and DeleteObject, rule by rule."""

from __future__ import annotations

import base64
import hashlib
import http.client
import re
from urllib.parse import quote

import pytest
from fastcrc import crc64

from ossfs.emulator.records import PLAIN
from tests.emulator.conftest import Served
from tests.emulator.raw import Answer, RawClient

DATA = bytes(range(250)) * 4  # 1,000 bytes


def test_every_reply_carries_request_id_server_time_and_server(oss: RawClient) -> None:
    """OSS docs, Common response headers."""
    for answer in (oss.call("PUT", "reply", body=b"x"), oss.call("GET", "no-such-reply")):
        assert re.fullmatch(r"[0-9A-F]{24}", answer.headers["x-oss-request-id"])
        assert answer.headers["x-oss-server-time"].isdecimal()
        assert answer.headers["server"] == "AliyunOSS"


def test_put_answers_with_md5_etag_and_crc64_of_the_whole_object(oss: RawClient) -> None:
    """OSS docs, PutObject, response headers; CRC-64 is the XZ one, in decimal."""
    answer = oss.call("PUT", "etag", body=DATA)
    assert answer.status == 200
    assert answer.headers["etag"] == f'"{hashlib.md5(DATA).hexdigest().upper()}"'
    assert answer.headers["x-oss-hash-crc64ecma"] == str(crc64.xz(DATA))
    part = oss.call("GET", "etag", headers={"Range": "bytes=1-2"})
    assert part.body == DATA[1:3]
    assert part.headers["x-oss-hash-crc64ecma"] == str(crc64.xz(DATA))


@pytest.mark.parametrize(
    "key",
    [
        "a//b///c",
        "..",
        "../../etc/passwd",
        "./.",
        "two\nlines\r\n",
        "sp ace+plus%25?q=1&x#frag",
        "naïve-文件-🗂",
        "x" * 1023,
        "dir/",
        "%2F",
        "\x01\x7f",
    ],
)
@pytest.mark.parametrize("v4", [False, True], ids=["v1", "v4"])
def test_any_utf8_key_of_1_to_1023_bytes_is_kept_as_it_is(
    served: Served, key: str, v4: bool
) -> None:
    """OSS docs, Object naming conventions."""
    oss = RawClient(served.port, v4=v4)
    assert oss.call("PUT", key, body=key.encode()).status == 200
    assert oss.call("GET", key).body == key.encode()
    listed = oss.call("GET", query={"encoding-type": "url", "prefix": key, "list-type": "2"})
    assert listed.one("KeyCount") == "1"
    assert oss.call("DELETE", key).status == 204
    assert oss.call("GET", key).code == "NoSuchKey"
    oss.close()


@pytest.mark.parametrize("key", ["x" * 1024, "/lead", "\\lead", b"\xff\xfe", "é" * 512])
def test_a_key_oss_does_not_take_is_invalid_object_name(oss: RawClient, key: str | bytes) -> None:
    """OSS docs, HTTP status code 400, InvalidObjectName: of every call on objects."""
    for method, query in (
        ("PUT", {}),
        ("GET", {}),
        ("HEAD", {}),
        ("HEAD", {"objectMeta": ""}),
        ("DELETE", {}),
        ("GET", {"symlink": ""}),
        ("POST", {"uploads": ""}),
        ("POST", {"append": "", "position": "0"}),
        ("GET", {"uploadId": "x"}),
    ):
        answer = oss.call(method, key, query, body=b"x" if method == "PUT" else None)
        assert (answer.status, answer.code) == (400, "InvalidObjectName"), (method, query)
    source = b"/test-bucket/" + (key.encode() if isinstance(key, str) else key)
    answer = oss.call("PUT", "copied", headers={"x-oss-copy-source": quote(source)})
    assert (answer.status, answer.code) == (400, "InvalidObjectName")


def test_a_put_over_the_limit_is_refused_before_its_body_is_read(served: Served) -> None:
    """OSS docs, PutObject: at most 5 GB (here 5,000 bytes); EntityTooLarge."""
    oss = RawClient(served.port)
    headers = {"Content-Length": str(5_001), "Expect": "100-continue"}
    with oss.begin("PUT", "large", headers=headers) as connection:
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"EntityTooLarge" in answer
    assert oss.call("PUT", "large", body=b"x" * 5_000).status == 200
    oss.close()


def test_a_put_without_length_but_chunked_is_taken_up_to_the_limit(oss: RawClient) -> None:
    """OSS docs, PutObject: Transfer-Encoding chunked is allowed, the 5 GB limit holds."""
    headers = {"Transfer-Encoding": "chunked"}
    chunks = [b"a" * 1_000, b"b" * 1_000]
    assert oss.call("PUT", "chunked", headers=headers, body=iter(chunks)).status == 200
    assert oss.call("GET", "chunked").body == b"".join(chunks)
    answer = oss.call("PUT", "chunked-large", headers=headers, body=iter([b"c" * 2_600] * 2))
    assert answer.code == "EntityTooLarge"


def test_a_put_with_neither_length_nor_chunks_is_missing_content_length(served: Served) -> None:
    """OSS docs, Common errors, MissingContentLength."""
    oss = RawClient(served.port)
    with oss.begin("PUT", "bare") as connection:
        assert connection.recv(65536).startswith(b"HTTP/1.1 411 ")
    oss.close()


def test_expect_100_continue_is_answered_before_the_body_comes(served: Served) -> None:
    """RFC 9110, 10.1.1; curl sends it with every body above 1 MB."""
    oss = RawClient(served.port)
    headers = {"Content-Length": "5", "Expect": "100-continue"}
    with oss.begin("PUT", "expect", headers=headers) as connection:
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"hello")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    oss.close()


def test_content_md5_is_checked(oss: RawClient) -> None:
    """OSS docs, EC 0017-00000502 and 0017-00000503: malformed and mismatched are InvalidDigest."""
    right = base64.b64encode(hashlib.md5(DATA).digest()).decode()
    wrong = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    assert oss.call("PUT", "md5", headers={"Content-MD5": right}, body=DATA).status == 200
    for value in (wrong, "c2hvcnQ=", "not base64"):
        answer = oss.call("PUT", "md5-bad", headers={"Content-MD5": value}, body=DATA)
        assert (answer.status, answer.code) == (400, "InvalidDigest")
    assert oss.call("HEAD", "md5-bad").status == 404


def test_user_metadata_and_content_headers_come_back_from_get_and_head(oss: RawClient) -> None:
    """OSS docs, PutObject, request headers."""
    headers = {
        "Content-Type": "text/x-test",
        "Cache-Control": "no-cache",
        "x-oss-meta-Mode": "33188",
        "x-oss-storage-class": "IA",
    }
    oss.call("PUT", "meta", headers=headers, body=b"x")
    for method in ("GET", "HEAD"):
        found = oss.call(method, "meta").headers
        assert found["content-type"] == "text/x-test"
        assert found["cache-control"] == "no-cache"
        assert found["x-oss-meta-mode"] == "33188"
        assert found["x-oss-storage-class"] == "IA"
        assert found["x-oss-object-type"] == "Normal"


def test_object_meta_and_listings_are_without_user_metadata(oss: RawClient) -> None:
    """OSS docs, GetObjectMeta: ETag, size and time; ListObjectsV2 names no metadata."""
    oss.call("PUT", "lean", headers={"x-oss-meta-secret": "shown"}, body=b"x")
    meta = oss.call("HEAD", "lean", {"objectMeta": ""})
    assert meta.status == 200
    assert meta.headers["content-length"] == "1"
    assert "etag" in meta.headers
    assert not [name for name in meta.headers if name.startswith("x-oss-meta")]
    assert "x-oss-object-type" not in meta.headers
    assert b"shown" not in oss.call("GET", query={"prefix": "lean"}).body


def test_user_metadata_over_8_kb_is_refused(oss: RawClient) -> None:
    """OSS docs, EC 0011-00000002: names and values of all x-oss-meta- headers, at most 8 KB."""
    name = "x-oss-meta-a"
    fits = {name: "v" * (8 * 1024 - len(name))}
    assert oss.call("PUT", "meta-fits", headers=fits, body=b"").status == 200
    over = {name: fits[name] + "v"}
    for method, query in (
        ("PUT", {}),
        ("PUT", {"symlink": ""}),
        ("POST", {"uploads": ""}),
        ("POST", {"append": "", "position": "0"}),
    ):
        sent = {**over, "x-oss-symlink-target": "x"}
        answer = oss.call(method, "meta-over", query, sent, b"")
        assert (answer.status, answer.code) == (400, "MetadataTooLarge")
        assert answer.headers["x-oss-ec"] == answer.one("EC") == "0011-00000002"
    assert oss.call("HEAD", "meta-over").status == 404


def test_user_metadata_names_hold_letters_digits_and_hyphens(oss: RawClient) -> None:
    """OSS docs, EC 0011-00000004: underscores and other characters are refused."""
    answer = oss.call("PUT", "meta-name", headers={"x-oss-meta-my_key": "v"}, body=b"")
    assert answer.status == 400
    assert oss.call("HEAD", "meta-name").status == 404


def test_last_modified_is_in_whole_seconds_everywhere(oss: RawClient) -> None:
    """OSS docs, ListObjectsV2, LastModified (always .000Z)."""
    oss.call("PUT", "time", body=b"x")
    header = oss.call("HEAD", "time").headers["last-modified"]
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", header)
    listed = oss.call("GET", query={"prefix": "time"}).one("LastModified")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.000Z", listed)
    assert header[17:25] == listed[11:19]


@pytest.mark.parametrize(
    "text", ["bytes=500-2000", "bytes=1000-", "bytes=2000-3000", "bytes=-2000"]
)
def test_a_range_out_of_bounds_without_the_standard_header_gets_the_whole_object(
    oss: RawClient, text: str
) -> None:
    """OSS docs, GetObject, range behaviour."""
    oss.call("PUT", "range", body=DATA)
    answer = oss.call("GET", "range", headers={"Range": text})
    assert (answer.status, answer.body) == (200, DATA)
    assert "content-range" not in answer.headers


@pytest.mark.parametrize(
    "text", ["bytes=9-2", "bytes=a-b", "items=0-1", "bytes=-", "bytes=0-1,3-4", "0-1"]
)
@pytest.mark.parametrize("behaviour", [{}, {"x-oss-range-behavior": "standard"}])
def test_what_is_no_range_gets_the_whole_object(
    oss: RawClient, text: str, behaviour: dict[str, str]
) -> None:
    """OSS docs, GetObject, range behaviour: only one well-formed range is honoured."""
    oss.call("PUT", "range", body=DATA)
    answer = oss.call("GET", "range", headers={"Range": text, **behaviour})
    assert (answer.status, answer.body) == (200, DATA)


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=10-19", 10, 19),
        ("bytes=990-", 990, 999),
        ("bytes=-10", 990, 999),
        ("bytes=500-2000", 500, 999),
        ("bytes=-2000", 0, 999),
    ],
)
def test_with_the_standard_header_a_range_is_cut_at_the_end(
    oss: RawClient, text: str, start: int, end: int
) -> None:
    """OSS docs, GetObject, range behaviour: standard answers 206 with what there is."""
    oss.call("PUT", "range", body=DATA)
    headers = {"Range": text, "x-oss-range-behavior": "standard"}
    answer = oss.call("GET", "range", headers=headers)
    assert (answer.status, answer.body) == (206, DATA[start : end + 1])
    assert answer.headers["content-range"] == f"bytes {start}-{end}/1000"


@pytest.mark.parametrize("text", ["bytes=1000-", "bytes=1000-1001", "bytes=-0"])
def test_with_the_standard_header_a_range_past_the_end_is_416(oss: RawClient, text: str) -> None:
    """OSS docs, HTTP status code 416, InvalidRange."""
    oss.call("PUT", "range", body=DATA)
    headers = {"Range": text, "x-oss-range-behavior": "standard"}
    answer = oss.call("GET", "range", headers=headers)
    assert (answer.status, answer.code) == (416, "InvalidRange")


def test_an_empty_object_has_no_range(oss: RawClient) -> None:
    """OSS docs, GetObject, range behaviour: no byte position lies within an empty object."""
    oss.call("PUT", "empty", body=b"")
    assert oss.call("GET", "empty", headers={"Range": "bytes=0-0"}).status == 200
    headers = {"Range": "bytes=0-0", "x-oss-range-behavior": "standard"}
    assert oss.call("GET", "empty", headers=headers).status == 416


def test_conditions_hold_on_get_and_head(oss: RawClient) -> None:
    """OSS docs, GetObject, If-Match, If-None-Match, If-Modified-Since, If-Unmodified-Since."""
    etag = oss.call("PUT", "cond", body=DATA).headers["etag"]
    modified = oss.call("HEAD", "cond").headers["last-modified"]
    past, future = "Mon, 01 Jan 2001 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT"
    cases = [
        ({"If-Match": etag}, 200),
        ({"If-Match": etag.strip('"').lower()}, 200),
        ({"If-Match": '"0"'}, 412),
        ({"If-None-Match": etag}, 304),
        ({"If-None-Match": '"0"'}, 200),
        ({"If-Modified-Since": past}, 200),
        ({"If-Modified-Since": modified}, 304),
        ({"If-Unmodified-Since": past}, 412),
        ({"If-Unmodified-Since": future}, 200),
    ]
    for headers, status in cases:
        assert oss.call("GET", "cond", headers=headers).status == status, headers
        assert oss.call("HEAD", "cond", headers=headers).status == status, headers
    assert oss.call("GET", "cond", headers={"If-Match": '"0"'}).code == "PreconditionFailed"


def test_object_meta_knows_no_conditions(oss: RawClient) -> None:
    """OSS docs, GetObjectMeta: conditional headers are none of its request headers."""
    etag = oss.call("PUT", "bare", body=b"x").headers["etag"]
    for headers in (
        {"If-Match": '"0"'},
        {"If-None-Match": etag},
        {"If-Unmodified-Since": "Mon, 01 Jan 2001 00:00:00 GMT"},
        {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"},
    ):
        assert oss.call("HEAD", "bare", {"objectMeta": ""}, headers).status == 200, headers


def test_a_put_does_not_know_if_match(oss: RawClient) -> None:
    """OSS docs, PutObject: If-Match is none of its headers."""
    oss.call("PUT", "blind", body=b"one")
    assert oss.call("PUT", "blind", headers={"If-Match": '"0"'}, body=b"two").status == 200
    assert oss.call("GET", "blind").body == b"two"


def test_forbid_overwrite_refuses_to_replace(oss: RawClient) -> None:
    """OSS docs, PutObject, x-oss-forbid-overwrite: 409 FileAlreadyExists."""
    headers = {"x-oss-forbid-overwrite": "true"}
    assert oss.call("PUT", "once", headers=headers, body=b"one").status == 200
    answer = oss.call("PUT", "once", headers=headers, body=b"two")
    assert (answer.status, answer.code) == (409, "FileAlreadyExists")
    assert oss.call("GET", "once").body == b"one"


def test_head_errors_carry_their_xml_in_a_header(oss: RawClient) -> None:
    """OSS docs, HeadObject: x-oss-err is the error document in base64, x-oss-ec its EC."""
    answer = oss.call("HEAD", "nothing-here")
    assert (answer.status, answer.body, answer.code) == (404, b"", "NoSuchKey")
    assert answer.headers["x-oss-ec"] == "0026-00000001"
    again = oss.call("HEAD", "nothing-here", {"objectMeta": ""})
    assert (again.status, again.code) == (404, "NoSuchKey")


def test_an_error_names_code_message_request_and_host(oss: RawClient) -> None:
    """OSS docs, Error responses."""
    answer = oss.call("GET", "nothing-here")
    assert answer.status == 404
    assert answer.one("Code") == "NoSuchKey"
    assert answer.one("Message") == "The specified key does not exist."
    assert answer.one("RequestId") == answer.headers["x-oss-request-id"]
    assert answer.one("HostId") == f"127.0.0.1:{oss.port}"
    assert answer.one("EC") == answer.headers["x-oss-ec"]


def test_an_archived_object_has_to_be_restored_before_it_is_read(oss: RawClient) -> None:
    """OSS docs, GetObject and RestoreObject: InvalidObjectState until then; 202, then 200."""
    oss.call("PUT", "cold", headers={"x-oss-storage-class": "Archive"}, body=b"ice")
    answer = oss.call("GET", "cold")
    assert (answer.status, answer.code) == (403, "InvalidObjectState")
    assert oss.call("HEAD", "cold").headers["x-oss-storage-class"] == "Archive"
    assert oss.call("POST", "cold", {"restore": ""}).status == 202
    assert oss.call("POST", "cold", {"restore": ""}).status == 200
    assert oss.call("GET", "cold").body == b"ice"


def test_copies_of_an_archived_object_need_it_restored_and_are_not(oss: RawClient) -> None:
    """OSS docs, CopyObject, UploadPartCopy and RestoreObject: only what was restored is read."""
    archive = {"x-oss-storage-class": "Archive"}
    source = {"x-oss-copy-source": "/test-bucket/iced"}
    oss.call("PUT", "iced", headers=archive, body=b"ice")
    oss.call("PUT", "iced-link", {"symlink": ""}, {"x-oss-symlink-target": "iced"})
    oss.call("PUT", "link-of-ice", {"symlink": ""}, {"x-oss-symlink-target": "warm", **archive})
    oss.call("PUT", "warm", body=b"water")
    upload = oss.call("POST", "thawed", {"uploads": ""}).one("UploadId")
    query = {"uploadId": upload, "partNumber": "1"}

    def part_of(key: str) -> Answer:
        sent = {"x-oss-copy-source": f"/test-bucket/{key}"}
        return oss.call("PUT", "thawed", query, sent)

    for answer in (
        oss.call("PUT", "copied", headers=source),
        part_of("iced"),
        part_of("iced-link"),
        oss.call("GET", "iced-link"),
    ):
        assert (answer.status, answer.code) == (403, "InvalidObjectState")
    assert oss.call("GET", "link-of-ice").body == b"water"
    assert part_of("link-of-ice").status == 200
    oss.call("POST", "iced", {"restore": ""})
    assert part_of("iced").status == part_of("iced-link").status == 200
    assert oss.call("PUT", "copied", headers=source).status == 200
    found = oss.call("HEAD", "copied").headers
    assert (found["x-oss-storage-class"], found.get("x-oss-restore")) == ("Archive", None)
    assert oss.call("GET", "copied").code == "InvalidObjectState"
    replaced = {"x-oss-metadata-directive": "REPLACE", "x-oss-meta-a": "b", **source}
    assert oss.call("PUT", "iced", headers=replaced).status == 200
    assert oss.call("GET", "iced").body == b"ice"
    standard = {"x-oss-storage-class": "Standard", **source}
    assert oss.call("PUT", "iced", headers=standard).status == 200
    assert "x-oss-restore" not in oss.call("GET", "iced").headers


def test_deleting_what_is_not_there_is_204(oss: RawClient) -> None:
    """OSS docs, DeleteObject."""
    assert oss.call("DELETE", "never-was").status == 204


def test_response_headers_can_be_asked_for(oss: RawClient) -> None:
    """OSS docs, GetObject, response-content-type."""
    oss.call("PUT", "typed", headers={"Content-Type": "text/plain"}, body=b"x")
    answer = oss.call("GET", "typed", {"response-content-type": "a/b"})
    assert answer.headers["content-type"] == "a/b"


def test_a_bucket_that_is_not_there_is_no_such_bucket(oss: RawClient) -> None:
    """OSS docs, HTTP status code 404, NoSuchBucket."""
    for method, key in (("GET", "x"), ("GET", ""), ("PUT", "x"), ("HEAD", "x")):
        answer = oss.call(method, key, bucket="no-such-bucket")
        assert (answer.status, answer.code) == (404, "NoSuchBucket")


def test_the_host_name_may_name_the_bucket(oss: RawClient) -> None:
    """OSS docs, Access OSS by endpoint: BUCKET.ENDPOINT/KEY."""
    oss.call("PUT", "by-host", body=b"found")
    answer = oss.call("GET", "by-host", host="test-bucket.oss-cn-hangzhou.aliyuncs.com")
    assert answer.body == b"found"
    answer = oss.call("GET", "by-host", host="other-bucket.oss.example", bucket="other-bucket")
    assert answer.code == "NoSuchBucket"
    service = "oss-cn-hangzhou.aliyuncs.com"
    for host in (service, service.upper(), f"oss.aliyuncs.com:{oss.port}", f"[::1]:{oss.port}"):
        connection = http.client.HTTPConnection("127.0.0.1", oss.port, timeout=10)
        headers = oss.sign("GET", "by-host", headers={"Host": host})
        connection.request("GET", "/test-bucket/by-host", headers=headers)
        assert connection.getresponse().read() == b"found"
        connection.close()


@pytest.mark.parametrize("bucket", ["test-bucket", "oss-mine", "oss"])
@pytest.mark.parametrize(
    "endpoint", ["oss-cn-hangzhou.aliyuncs.com", "OSS-cn-hangzhou.AliyunCS.com", "localhost:80"]
)
def test_any_bucket_may_be_named_by_a_host_name_in_any_case(
    oss: RawClient, bucket: str, endpoint: str
) -> None:
    """RFC 9110, 4.2.3: host names have no case; OSS docs, Bucket naming: oss- is no reserved start.
    Access OSS by endpoint."""
    oss.call("PUT", bucket=bucket)
    oss.call("PUT", "hosted", body=b"found", bucket=bucket)
    for host in (f"{bucket}.{endpoint}", f"{bucket.title()}.{endpoint}"):
        assert oss.call("GET", "hosted", bucket=bucket, host=host).body == b"found"


def test_a_get_under_way_keeps_the_bytes_of_the_object_it_began_with(served: Served) -> None:
    """OSS docs, consistency: an overwrite is atomic; headers and bytes are of one version."""
    bucket = served.storage.bucket("test-bucket")
    size = 32 << 20
    with bucket.body(size) as body:
        for _ in range(32):
            body.write(b"o" * (1 << 20))
        old = served.run(lambda: bucket.put(b"replaced", body, PLAIN))
    oss = RawClient(served.port)
    headers = oss.sign("GET", "replaced")
    reader = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
    reader.request("GET", "/test-bucket/replaced", headers=headers)
    reply = reader.getresponse()
    first = reply.read(1 << 16)
    assert oss.call("PUT", "replaced", body=b"n" * 100).status == 200
    assert oss.call("GET", "replaced").body == b"n" * 100
    rest = reply.read()
    assert reply.headers["ETag"] == f'"{old.etag}"'
    assert first + rest == b"o" * size
    reader.close()
    oss.close()
