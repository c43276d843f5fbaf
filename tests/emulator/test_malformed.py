"""What no client should send is refused in OSS's words, and never an error of the server's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.emulator.conftest import Served
from tests.emulator.raw import RawClient

MANY = "9" * 5_000
"""Digits: `int` refuses more than 4,300."""

BYTE = "\udcff"
"""Sent as 0xff, which no UTF-8 holds."""


@pytest.fixture(params=[False, True], ids=["v1", "v4"])
def client(served: Served, request: pytest.FixtureRequest) -> Iterator[RawClient]:
    oss = RawClient(served.port, v4=request.param)
    yield oss
    oss.close()


@pytest.mark.parametrize("name", ["prefix", "marker", BYTE])
def test_parameters_are_utf8(client: RawClient, name: str) -> None:
    """OSS docs, ListObjects and Object naming conventions: keys, and parts of them, are UTF-8."""
    answer = client.call("GET", query={name: f"a{BYTE}"})
    assert (answer.status, answer.code) == (400, "InvalidArgument")


@pytest.mark.parametrize(
    ("method", "key", "query"),
    [
        ("GET", "x", {"uploadId": BYTE}),
        ("PUT", "x", {"uploadId": BYTE, "partNumber": "1"}),
        ("POST", "x", {"uploadId": BYTE}),
        ("DELETE", "x", {"uploadId": BYTE}),
        ("GET", "", {"uploads": "", "key-marker": "a", "upload-id-marker": BYTE}),
        ("GET", "", {"list-type": "2", "continuation-token": BYTE}),
        ("GET", "x", {"response-content-type": BYTE}),
    ],
)
def test_ids_and_markers_are_utf8(
    client: RawClient, method: str, key: str, query: dict[str, str]
) -> None:
    """OSS docs, HTTP status code 400, InvalidArgument."""
    answer = client.call(method, key, query, body=b"<a/>" if method in ("PUT", "POST") else None)
    assert (answer.status, answer.code) == (400, "InvalidArgument")


@pytest.mark.parametrize("name", ["Content-Type", "Content-Disposition", "x-oss-meta-a"])
def test_headers_of_an_object_are_utf8(client: RawClient, name: str) -> None:
    """OSS docs, EC 0011-00000005: characters that user metadata must not have."""
    refused = client.call("PUT", "text", headers={name: f"a{BYTE}"}, body=b"")
    assert (refused.status, refused.code) == (400, "InvalidArgument")
    assert client.call("PUT", "text", headers={name: "naïve"}, body=b"").status == 200
    found = client.call("GET", "text", headers={name: f"a{BYTE}"})
    assert found.headers[name.lower()].encode("latin-1").decode() == "naïve"


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("Authorization", "InvalidArgument"),
        ("x-oss-security-token", "InvalidSecurityToken"),
        ("x-oss-copy-source", "InvalidArgument"),
        ("Content-MD5", "InvalidDigest"),
        ("x-oss-storage-class", "InvalidArgument"),
    ],
)
def test_a_header_of_other_bytes_is_refused(client: RawClient, header: str, code: str) -> None:
    """OSS docs, HTTP status codes 400 and 403."""
    signed = header != "Authorization"
    answer = client.call("PUT", "bytes", headers={header: BYTE}, body=b"", signed=signed)
    assert answer.status in (400, 403)
    assert answer.code == code


@pytest.mark.parametrize("text", ["é", BYTE])
def test_a_signature_of_other_bytes_does_not_match(client: RawClient, text: str) -> None:
    """OSS docs, HTTP status code 403, SignatureDoesNotMatch."""
    headers = client.sign("GET", "x")
    headers["Authorization"] += text
    answer = client.call("GET", "x", headers=headers, signed=False)
    assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch")


@pytest.mark.parametrize("v4", [False, True], ids=["v1", "v4"])
def test_a_bucket_of_other_bytes_is_no_bucket(served: Served, v4: bool) -> None:
    """OSS docs, HTTP status code 400, InvalidBucketName."""
    oss = RawClient(served.port, v4=v4)
    answer = oss.call("GET", "x", bucket="a?", host=f"a{BYTE}.oss-cn-hangzhou.aliyuncs.com")
    assert (answer.status, answer.code) == (400, "InvalidBucketName")
    oss.close()


@pytest.mark.parametrize(
    ("text", "standard", "other"),
    [
        (f"bytes=0-{MANY}", 206, 200),
        (f"bytes={MANY}-", 416, 200),
        (f"bytes=-{MANY}", 206, 200),
        (f"bytes={'0' * 5_000}-{'0' * 5_000}", 206, 206),
        ("bytes=\u0661-\u0662", 200, 200),
    ],
)
def test_a_range_may_have_any_number_of_digits(
    oss: RawClient, text: str, standard: int, other: int
) -> None:
    """OSS docs, GetObject, range behaviour: as of any position past the end."""
    oss.call("PUT", "digits", body=b"0123456789")
    behaviour = {"x-oss-range-behavior": "standard"}
    assert oss.call("GET", "digits", headers={"Range": text, **behaviour}).status == standard
    assert oss.call("GET", "digits", headers={"Range": text}).status == other


def test_part_numbers_and_copied_ranges_may_have_any_number_of_digits(oss: RawClient) -> None:
    """OSS docs, CompleteMultipartUpload and UploadPartCopy: InvalidArgument, InvalidRange."""
    oss.call("PUT", "digits", body=b"0123456789")
    upload = oss.call("POST", "parts", {"uploads": ""}).one("UploadId")
    for number, code in ((MANY, "InvalidArgument"), ("\u0661", "MalformedXML")):
        part = f"<Part><PartNumber>{number}</PartNumber><ETag>x</ETag></Part>"
        body = f"<CompleteMultipartUpload>{part}</CompleteMultipartUpload>".encode()
        answer = oss.call("POST", "parts", {"uploadId": upload}, body=body)
        assert (answer.status, answer.code) == (400, code)
    query = {"uploadId": upload, "partNumber": MANY}
    assert oss.call("PUT", "parts", query, body=b"").code == "InvalidArgument"
    headers = {
        "x-oss-copy-source": "/test-bucket/digits",
        "x-oss-copy-source-range": f"bytes=0-{MANY}",
    }
    answer = oss.call("PUT", "parts", {"uploadId": upload, "partNumber": "1"}, headers)
    assert (answer.status, answer.code) == (416, "InvalidRange")


@pytest.mark.parametrize(
    "date", ["Mon, 01 Jan 2024 00:00:00 +" + "9" * 20, "Mon, 01 Jan 0001 00:00:00 -0000", BYTE, ""]
)
def test_a_date_is_a_date(oss: RawClient, date: str) -> None:
    """OSS docs, HTTP status code 403; GetObject ignores conditions it cannot read."""
    headers = {**oss.sign("GET", "x"), "Date": date}
    answer = oss.call("GET", "x", headers=headers, signed=False)
    assert answer.status == 403
    assert answer.code in ("AccessDenied", "RequestTimeTooSkewed")
    oss.call("PUT", "dated", body=b"")
    for name in ("If-Modified-Since", "If-Unmodified-Since"):
        assert oss.call("GET", "dated", headers={name: date}).status in (200, 412)


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r", "\0"])
@pytest.mark.parametrize("name", ["content-type", "cache-control", "content-disposition"])
def test_a_header_that_is_asked_for_is_one_line(client: RawClient, name: str, end: str) -> None:
    """RFC 9110, 5.5: CR, LF and NUL are no part of a header; a reply must not be split by them."""
    client.call("PUT", "split", body=b"x")
    answer = client.call("GET", "split", {f"response-{name}": f"a{end}X-Evil: 1"})
    assert (answer.status, answer.code) == (400, "InvalidArgument")
    assert "x-evil" not in answer.headers


@pytest.mark.parametrize("encoding", ["unheard-of", "big5", "utf-16"])
def test_a_document_of_an_odd_encoding_is_malformed(oss: RawClient, encoding: str) -> None:
    """OSS docs, HTTP status code 400, MalformedXML."""
    body = f'<?xml version="1.0" encoding="{encoding}"?><CompleteMultipartUpload/>'.encode()
    upload = oss.call("POST", "odd", {"uploads": ""}).one("UploadId")
    answer = oss.call("POST", "odd", {"uploadId": upload}, body=body)
    assert (answer.status, answer.code) == (400, "MalformedXML")
