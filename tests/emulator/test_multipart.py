"""Multipart uploads, with limits scaled down: parts of 100 to 5,000 bytes, numbers 1 to 20."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import pytest
from fastcrc import crc64

from tests.emulator.raw import Answer, RawClient


def begin(oss: RawClient, key: str, headers: dict[str, str] | None = None) -> str:
    answer = oss.call("POST", key, {"uploads": ""}, headers)
    assert answer.status == 200
    return answer.one("UploadId")


def part(oss: RawClient, key: str, upload: str, number: int, data: bytes) -> str:
    answer = oss.call("PUT", key, {"partNumber": str(number), "uploadId": upload}, body=data)
    assert answer.status == 200, answer.body
    return answer.headers["etag"]


def complete(
    oss: RawClient,
    key: str,
    upload: str,
    parts: Sequence[tuple[int, str]],
    headers: dict[str, str] | None = None,
) -> Answer:
    items = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
        for number, etag in parts
    )
    body = f"<CompleteMultipartUpload>{items}</CompleteMultipartUpload>".encode()
    return oss.call("POST", key, {"uploadId": upload}, headers, body)


def test_parts_in_any_order_become_one_object(oss: RawClient) -> None:
    """OSS docs, CompleteMultipartUpload: type Multipart, an ETag that is no MD5, the CRC-64."""
    first, last = b"1" * 200, b"2" * 10
    headers = {"x-oss-meta-mode": "420", "Content-Type": "a/b"}
    upload = begin(oss, "whole", headers)
    two = part(oss, "whole", upload, 2, last)
    one = part(oss, "whole", upload, 1, first)
    assert one == f'"{hashlib.md5(first).hexdigest().upper()}"'
    assert oss.call("HEAD", "whole").status == 404
    answer = complete(oss, "whole", upload, [(1, one), (2, two)])
    assert answer.status == 200
    assert re.fullmatch(r'"[0-9A-F]{32}-2"', answer.headers["etag"])
    assert answer.headers["x-oss-hash-crc64ecma"] == str(crc64.xz(first + last))
    found = oss.call("GET", "whole")
    assert found.body == first + last
    assert found.headers["x-oss-object-type"] == "Multipart"
    assert found.headers["x-oss-meta-mode"] == "420"
    assert found.headers["content-type"] == "a/b"
    assert "content-md5" not in found.headers
    ranged = oss.call("GET", "whole", headers={"Range": "bytes=198-203"})
    assert ranged.body == b"112222"


def test_a_part_but_the_last_under_the_minimum_is_entity_too_small(oss: RawClient) -> None:
    """OSS docs, CompleteMultipartUpload: every part but the last has at least 100 KB."""
    upload = begin(oss, "small")
    etags = [(n, part(oss, "small", upload, n, b"x" * size)) for n, size in ((1, 99), (2, 1))]
    answer = complete(oss, "small", upload, etags)
    assert (answer.status, answer.code) == (400, "EntityTooSmall")
    etags[0] = (1, part(oss, "small", upload, 1, b"x" * 100))
    assert complete(oss, "small", upload, etags).status == 200


@pytest.mark.parametrize("number", ["0", "21", "-1", "x", "", None])
def test_part_numbers_are_1_to_the_limit(oss: RawClient, number: str | None) -> None:
    """OSS docs, UploadPart: 1 to 10,000 (here 20), else InvalidArgument; partNumber is required."""
    upload = begin(oss, "numbers")
    query = {"uploadId": upload} | ({} if number is None else {"partNumber": number})
    oss.call("PUT", "numbers-source", body=b"x")
    for headers in ({}, {"x-oss-copy-source": "/test-bucket/numbers-source"}):
        answer = oss.call("PUT", "numbers", query, headers, b"" if headers else b"x")
        assert (answer.status, answer.code) == (400, "InvalidArgument")
    assert oss.call("GET", "numbers", {"uploadId": upload}).all("PartNumber") == []


def test_a_part_over_the_limit_is_entity_too_large(oss: RawClient) -> None:
    """OSS docs, UploadPart: at most 5 GB (here 5,000 bytes)."""
    upload = begin(oss, "fat")
    query = {"partNumber": "1", "uploadId": upload}
    answer = oss.call("PUT", "fat", query, body=b"x" * 5_001)
    assert answer.code == "EntityTooLarge"


def test_completion_is_strict_about_parts_and_their_order(oss: RawClient) -> None:
    """OSS docs, CompleteMultipartUpload, error codes InvalidPart and InvalidPartOrder."""
    upload = begin(oss, "strict")
    one = part(oss, "strict", upload, 1, b"1" * 100)
    two = part(oss, "strict", upload, 2, b"2" * 100)
    for parts, code in (
        ([(1, one), (3, two)], "InvalidPart"),
        ([(1, two), (2, two)], "InvalidPart"),
        ([(2, two), (1, one)], "InvalidPartOrder"),
        ([(1, one), (1, one)], "InvalidPartOrder"),
        ([], "MalformedXML"),
    ):
        answer = complete(oss, "strict", upload, parts)
        assert (answer.status, answer.code) == (400, code), parts
    answer = oss.call("POST", "strict", {"uploadId": upload}, body=b"<no")
    assert answer.code == "MalformedXML"
    assert complete(oss, "strict", upload, [(1, one)]).status == 200
    assert oss.call("GET", "strict").body == b"1" * 100


def test_a_part_uploaded_again_replaces_the_earlier_one(oss: RawClient) -> None:
    """OSS docs, UploadPart: a part number used again overwrites the part."""
    upload = begin(oss, "again")
    old = part(oss, "again", upload, 1, b"old")
    new = part(oss, "again", upload, 1, b"new")
    assert complete(oss, "again", upload, [(1, old)]).code == "InvalidPart"
    assert complete(oss, "again", upload, [(1, new)]).status == 200
    assert oss.call("GET", "again").body == b"new"


def test_an_upload_that_is_gone_is_no_such_upload(oss: RawClient) -> None:
    """OSS docs, NoSuchUpload: unknown, completed, aborted, or another key's."""
    unknown = "0" * 32
    done = begin(oss, "gone")
    etag = part(oss, "gone", done, 1, b"x")
    assert complete(oss, "gone", done, [(1, etag)]).status == 200
    aborted = begin(oss, "gone")
    assert oss.call("DELETE", "gone", {"uploadId": aborted}).status == 204
    other = begin(oss, "other-key")
    for upload in (unknown, done, aborted, other):
        query = {"uploadId": upload}
        for answer in (
            oss.call("PUT", "gone", {**query, "partNumber": "1"}, body=b"x"),
            complete(oss, "gone", upload, [(1, etag)]),
            oss.call("GET", "gone", query),
            oss.call("DELETE", "gone", query),
        ):
            assert (answer.status, answer.code) == (404, "NoSuchUpload")


def test_forbid_overwrite_holds_at_both_ends_of_an_upload(oss: RawClient) -> None:
    """OSS docs, InitiateMultipartUpload and CompleteMultipartUpload, x-oss-forbid-overwrite."""
    forbid = {"x-oss-forbid-overwrite": "true"}
    upload = begin(oss, "kept")
    etag = part(oss, "kept", upload, 1, b"upload")
    early = begin(oss, "kept", forbid)
    early_etag = part(oss, "kept", early, 1, b"upload")
    oss.call("PUT", "kept", body=b"put")
    assert oss.call("POST", "kept", {"uploads": ""}, forbid).code == "FileAlreadyExists"
    assert complete(oss, "kept", upload, [(1, etag)], forbid).code == "FileAlreadyExists"
    assert complete(oss, "kept", early, [(1, early_etag)]).code == "FileAlreadyExists"
    assert oss.call("GET", "kept").body == b"put"
    assert complete(oss, "kept", upload, [(1, etag)]).status == 200
    assert oss.call("GET", "kept").body == b"upload"


def test_a_part_can_be_a_range_of_an_object(oss: RawClient) -> None:
    """OSS docs, UploadPartCopy."""
    source = bytes(range(250)) * 2
    made = oss.call("PUT", "copy source/ü", body=source)
    upload = begin(oss, "assembled")
    query = {"uploadId": upload, "partNumber": "1"}
    headers = {
        "x-oss-copy-source": "/test-bucket/copy%20source/%C3%BC",
        "x-oss-copy-source-range": "bytes=100-299",
        "x-oss-copy-source-if-match": made.headers["etag"],
    }
    copied = oss.call("PUT", "assembled", query, headers)
    assert copied.status == 200
    assert copied.headers["x-oss-hash-crc64ecma"] == str(crc64.xz(source[100:300]))
    one = copied.one("ETag").replace("&quot;", '"')
    two = part(oss, "assembled", upload, 2, b"tail")
    oss.call("DELETE", "copy source/ü")
    answer = complete(oss, "assembled", upload, [(1, one), (2, two)])
    assert answer.headers["x-oss-hash-crc64ecma"] == str(crc64.xz(source[100:300] + b"tail"))
    assert oss.call("GET", "assembled").body == source[100:300] + b"tail"


def test_a_copied_part_has_conditions_and_bounds(oss: RawClient) -> None:
    """OSS docs, UploadPartCopy, x-oss-copy-source-if-match and x-oss-copy-source-range; EC
    0042-00000301: x-oss-copy-source begins with a slash."""
    oss.call("PUT", "bounds", body=b"0123456789")
    upload = begin(oss, "bounded")
    query = {"uploadId": upload, "partNumber": "1"}
    source = {"x-oss-copy-source": "/test-bucket/bounds"}
    stale = {**source, "x-oss-copy-source-if-match": '"0"'}
    assert oss.call("PUT", "bounded", query, stale).status == 412
    beyond = {**source, "x-oss-copy-source-range": "bytes=5-10"}
    assert oss.call("PUT", "bounded", query, beyond).code == "InvalidRange"
    bare = {"x-oss-copy-source": "test-bucket/bounds"}
    refused = oss.call("PUT", "bounded", query, bare)
    assert (refused.status, refused.code) == (400, "InvalidArgument")
    assert refused.headers["x-oss-ec"] == refused.one("EC") == "0042-00000301"
    missing = {"x-oss-copy-source": "/test-bucket/no-such-source"}
    assert oss.call("PUT", "bounded", query, missing).code == "NoSuchKey"
    odd = {**source, "x-oss-copy-source-range": "bytes=5-"}
    whole = oss.call("PUT", "bounded", query, odd)
    assert whole.headers["x-oss-hash-crc64ecma"] == str(crc64.xz(b"0123456789"))


def test_parts_are_listed_in_pages(oss: RawClient) -> None:
    """OSS docs, ListParts: max-parts, part-number-marker."""
    upload = begin(oss, "parts")
    for number in (1, 5, 20):
        part(oss, "parts", upload, number, b"x" * number)
    query = {"uploadId": upload, "max-parts": "2"}
    page = oss.call("GET", "parts", query)
    assert page.all("PartNumber") == ["1", "5"]
    assert page.all("Size") == ["1", "5"]
    assert page.one("IsTruncated") == "true"
    marker = page.one("NextPartNumberMarker")
    page = oss.call("GET", "parts", {**query, "part-number-marker": marker})
    assert page.all("PartNumber") == ["20"]
    assert page.one("IsTruncated") == "false"


def test_uploads_are_listed_in_pages(oss: RawClient) -> None:
    """OSS docs, ListMultipartUploads: prefix, delimiter, key-marker with upload-id-marker."""
    started = sorted(
        (key, begin(oss, key)) for key in ("lst/a", "lst/a", "lst/b", "lst/d/x", "lst/d/y")
    )
    seen = []
    query = {"uploads": "", "prefix": "lst/", "max-uploads": "2"}
    for _ in range(5):
        page = oss.call("GET", query=query)
        seen += list(zip(page.all("Key"), page.all("UploadId"), strict=True))
        if page.one("IsTruncated") == "false":
            break
        query["key-marker"] = page.one("NextKeyMarker")
        query["upload-id-marker"] = page.one("NextUploadIdMarker")
    assert seen == started
    page = oss.call("GET", query={"uploads": "", "prefix": "lst/", "delimiter": "/"})
    assert page.all("Key") == ["lst/a", "lst/a", "lst/b"]
    assert page.all("Prefix") == ["lst/", "lst/d/"]
    after = oss.call("GET", query={"uploads": "", "prefix": "lst/", "key-marker": "lst/a"})
    assert after.all("Key") == ["lst/b", "lst/d/x", "lst/d/y"]


def test_every_part_can_be_completed_without_naming_them(oss: RawClient) -> None:
    """OSS docs, CompleteMultipartUpload, x-oss-complete-all."""
    upload = begin(oss, "all")
    part(oss, "all", upload, 2, b"b")
    part(oss, "all", upload, 1, b"a" * 100)
    answer = oss.call("POST", "all", {"uploadId": upload}, {"x-oss-complete-all": "yes"})
    assert answer.status == 200
    assert oss.call("GET", "all").body == b"a" * 100 + b"b"
