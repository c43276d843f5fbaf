"""OSS's own limits, where the other tests scale them down."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator

import pytest

from ossfs.emulator.records import Limits
from tests.emulator.raw import RawClient
from tests.support.emulator import EmulatorProcess

GB = 1 << 30


@pytest.fixture(scope="module")
def oss(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawClient]:
    with EmulatorProcess(tmp_path_factory.mktemp("limits"), request_log=False) as emulator:
        client = RawClient(emulator.port)
        yield client
        client.close()


def test_the_limits_are_those_of_oss() -> None:
    assert Limits() == Limits(
        minimum_part=100 * 1024,  # OSS docs, CompleteMultipartUpload: all parts but the last
        maximum_part=5 * GB,  # UploadPart
        parts=10_000,  # UploadPart: partNumber is 1 to 10,000
        put=5 * GB,  # PutObject
        append=5 * GB,  # AppendObject: the object, all appends together
        copy_across=5 * GB,  # CopyObject: to another bucket
        copy_converting=GB,  # CopyObject: to another storage class
        delete_many=1_000,  # DeleteMultipleObjects
        list_page=1_000,  # ListObjects and ListObjectsV2: max-keys
        key=1_023,  # Object naming conventions: 1 to 1,023 bytes
        metadata=8 * 1024,  # EC 0011-00000002: names and values of all x-oss-meta-* headers
    )


@pytest.mark.parametrize("size", [5 * GB, 5 * GB + 1])
@pytest.mark.parametrize("call", ["put", "append", "part"])
def test_a_body_of_5_gb_is_taken_and_no_larger_one(oss: RawClient, call: str, size: int) -> None:
    """OSS docs, PutObject, AppendObject, UploadPart; EntityTooLarge. The body is never sent."""
    method, query = "PUT", {}
    if call == "append":
        method, query = "POST", {"append": "", "position": "0"}
    elif call == "part":
        upload = oss.call("POST", "big", {"uploads": ""}).one("UploadId")
        query = {"partNumber": "10000", "uploadId": upload}
    headers = {"Content-Length": str(size), "Expect": "100-continue"}
    with oss.begin(method, "big", query, headers) as connection:
        answer = connection.recv(65_536)
    if size > 5 * GB:
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"<Code>EntityTooLarge</Code>" in answer
    else:
        assert answer == b"HTTP/1.1 100 Continue\r\n\r\n"


def test_part_sizes_and_numbers_have_their_bounds(oss: RawClient) -> None:
    """OSS docs, UploadPart and CompleteMultipartUpload."""
    for size, status in ((100 * 1024 - 1, 400), (100 * 1024, 200)):
        upload = oss.call("POST", "parts", {"uploads": ""}).one("UploadId")
        for number, length in ((1, size), (10_000, 1)):
            query = {"partNumber": str(number), "uploadId": upload}
            assert oss.call("PUT", "parts", query, body=b"x" * length).status == 200
        query = {"partNumber": "10001", "uploadId": upload}
        assert oss.call("PUT", "parts", query, body=b"x").code == "InvalidArgument"
        done = oss.call("POST", "parts", {"uploadId": upload}, {"x-oss-complete-all": "yes"})
        assert (done.status, done.code) == (status, "EntityTooSmall" if status == 400 else "")


def test_keys_deletions_and_pages_have_their_bounds(oss: RawClient) -> None:
    """OSS docs, Object naming conventions, DeleteMultipleObjects, ListObjectsV2."""
    assert oss.call("PUT", "k" * 1_023, body=b"").status == 200
    assert oss.call("PUT", "k" * 1_024, body=b"").code == "InvalidObjectName"
    for count, code in ((1_000, ""), (1_001, "MalformedXML")):
        keys = "".join(f"<Object><Key>{number}</Key></Object>" for number in range(count))
        body = f"<Delete>{keys}</Delete>".encode()
        digest = base64.b64encode(hashlib.md5(body).digest()).decode()
        assert oss.call("POST", "", {"delete": ""}, {"Content-MD5": digest}, body).code == code
        page = oss.call("GET", "", {"list-type": "2", "max-keys": str(count)})
        assert page.code == ("InvalidArgument" if code else "")
