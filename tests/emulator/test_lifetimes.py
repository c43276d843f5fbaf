"""What a request works with stays until it is done, whatever others do to the bucket meanwhile."""

from __future__ import annotations

import http.client
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from ossfs.emulator import uploads
from ossfs.emulator.records import PLAIN, Record, Segment
from ossfs.emulator.storage import Bucket, Storage
from tests.emulator.conftest import Served
from tests.emulator.raw import RawClient

PART = 4 << 20
"""Eight of these are more than the sockets between server and client hold."""


def data_files(bucket: Bucket) -> int:
    return sum(len(files) for _, _, files in os.walk(bucket.directory))


def assemble(bucket: Bucket, key: bytes, parts: int, size: int) -> Record:
    """Make an object of parts, each of one byte repeated: its number."""
    upload = uploads.begin(bucket, key, PLAIN, forbid_overwrite=False)
    for number in range(1, parts + 1):
        with bucket.body(size) as body:
            body.write(bytes([number]) * size)
            uploads.put_part(bucket, upload, number, body)
    return uploads.complete(bucket, upload, None, forbid_overwrite=False)


@contextmanager
def slow_get(oss: RawClient, key: str, bucket: str = "test-bucket") -> Iterator[Iterator[bytes]]:
    """Begin a GET and yield an iterator of first 64 KiB and then all the rest."""
    connection = http.client.HTTPConnection("127.0.0.1", oss.port, timeout=30)
    headers = oss.sign("GET", key, bucket=bucket)
    connection.request("GET", f"/{bucket}/{key}", headers=headers)
    reply = connection.getresponse()

    def pieces() -> Iterator[bytes]:
        yield reply.read(1 << 16)
        yield reply.read()

    yield pieces()
    connection.close()


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_a_get_under_way_keeps_parts_it_has_not_come_to(
    served: Served, oss: RawClient, method: str
) -> None:
    """OSS docs, consistency: an overwrite is atomic; headers and bytes are of one version."""
    bucket = served.storage.bucket("test-bucket")
    before = data_files(bucket)
    served.run(lambda: assemble(bucket, b"parts", 8, PART))
    with slow_get(oss, "parts") as pieces, slow_get(oss, "parts") as others:
        first = next(pieces)
        assert oss.call(method, "parts", body=b"n").status in (200, 204)
        assert oss.call("DELETE", "parts").status == 204
        whole = first + next(pieces)
        assert data_files(bucket) == before + 8, "the other reader still needs them"
        assert next(others) + next(others) == whole
    assert whole == b"".join(bytes([number]) * PART for number in range(1, 9))
    deadline = time.monotonic() + 10
    while served.run(lambda: data_files(bucket)) > before:
        assert time.monotonic() < deadline, "what nobody reads any more is unlinked"


def test_a_lease_keeps_a_file_until_its_last_end_and_no_longer(tmp_path: Path) -> None:
    with Storage(tmp_path) as storage:
        bucket = storage.bucket("leased", create=True)
        (segment,) = bucket.put_bytes(b"a", b"old").segments
        path = Path(bucket.files.path(segment.file))
        first, second = (bucket.files.lease([segment.file]) for _ in range(2))
        bucket.put_bytes(b"a", b"new")
        first.release()
        first.release()
        assert path.read_bytes() == b"old"
        second.release()
        assert not path.exists()
        (segment,) = bucket.get(b"a").segments
        with bucket.files.lease([segment.file]):
            pass
        assert Path(bucket.files.path(segment.file)).read_bytes() == b"new"


def test_closing_a_storage_leaves_no_replaced_file(tmp_path: Path) -> None:
    with Storage(tmp_path) as storage:
        bucket = storage.bucket("leased", create=True)
        (segment,) = bucket.put_bytes(b"a", b"old").segments
        bucket.files.lease([segment.file])
        bucket.delete(b"a")
    assert data_files(bucket) == 0


def test_a_reply_that_cannot_go_on_breaks_off(
    served: Served, oss: RawClient, expect_log: Callable[[str], None]
) -> None:
    """RFC 9112, 8: a body shorter than its Content-Length tells the client; a page would not."""
    expect_log("reply to GET /test-bucket/lost failed")
    bucket = served.storage.bucket("test-bucket")
    record = served.run(lambda: assemble(bucket, b"lost", 8, PART))
    Path(bucket.files.path(record.segments[-1].file)).unlink()
    with slow_get(oss, "lost") as pieces, pytest.raises(http.client.IncompleteRead) as caught:
        list(pieces)
    assert set(caught.value.partial) == set(range(1, 8))


@contextmanager
def half_sent(
    oss: RawClient,
    method: str,
    key: str,
    query: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
    *,
    bucket: str = "test-bucket",
    body: bytes = b"x" * 1_000,
) -> Iterator[Callable[[], bytes]]:
    """Send a request and half of its body; yield what sends the rest and returns the answer."""
    sent = {"Content-Length": str(len(body)), "Expect": "100-continue", **(headers or {})}
    with oss.begin(method, key, query, sent, bucket=bucket) as connection:
        assert connection.recv(65_536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body[: len(body) // 2])

        def finish() -> bytes:
            connection.sendall(body[len(body) // 2 :])
            return connection.recv(65_536)

        yield finish


@pytest.mark.parametrize("forbidden", [True, False])
def test_an_object_made_while_a_body_arrives_is_not_overwritten_where_forbidden(
    oss: RawClient, forbidden: bool
) -> None:
    """OSS docs, PutObject, x-oss-forbid-overwrite: 409 FileAlreadyExists, whoever began first."""
    headers = {"x-oss-forbid-overwrite": str(forbidden).lower()}
    key = f"raced-{forbidden}"
    with half_sent(oss, "PUT", key, headers=headers) as finish:
        assert oss.call("PUT", key, body=b"first").status == 200
        answer = finish()
    assert answer.startswith(b"HTTP/1.1 409 " if forbidden else b"HTTP/1.1 200 ")
    assert (b"<Code>FileAlreadyExists</Code>" in answer) == forbidden
    assert oss.call("GET", key).body == (b"first" if forbidden else b"x" * 1_000)


@pytest.mark.parametrize("again", [False, True], ids=["dropped", "and made again"])
@pytest.mark.parametrize(
    ("method", "query"),
    [
        ("PUT", {}),
        ("POST", {"append": "", "position": "0"}),
        ("PUT", {"uploadId": "", "partNumber": "1"}),
    ],
    ids=["put", "append", "part"],
)
def test_a_body_for_a_bucket_that_goes_meanwhile_makes_nothing(
    served: Served, oss: RawClient, method: str, query: dict[str, str], again: bool
) -> None:
    """OSS docs, HTTP status code 404, NoSuchBucket."""
    oss.call("PUT", bucket="going")
    if "uploadId" in query:
        upload = oss.call("POST", "ghost", {"uploads": ""}, bucket="going").one("UploadId")
        query = {**query, "uploadId": upload}
    with half_sent(oss, method, "ghost", query, bucket="going") as finish:
        if "uploadId" in query:
            oss.call("DELETE", "ghost", {"uploadId": query["uploadId"]}, bucket="going")
        assert oss.call("DELETE", bucket="going").status == 204
        other = "going" if again else "other"
        oss.call("PUT", bucket=other)
        answer = finish()
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"<Code>NoSuchBucket</Code>" in answer
    assert oss.call("GET", bucket=other).all("Key") == []
    assert oss.call("GET", "ghost", bucket=other).code == "NoSuchKey"
    assert oss.call("DELETE", bucket=other).status == 204
    left = {"test-bucket", ".lock"}
    assert {path.name for path in served.storage.directory.iterdir() if path.suffix == ""} == left


def test_a_part_copy_into_a_bucket_that_goes_meanwhile_makes_nothing(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OSS docs, HTTP status code 404, NoSuchBucket."""
    oss, other = RawClient(served.port), RawClient(served.port)
    oss.call("PUT", "source", body=b"x")
    oss.call("PUT", bucket="going")
    upload = oss.call("POST", "ghost", {"uploads": ""}, bucket="going").one("UploadId")
    crc_of = uploads.crc_of

    def meanwhile(bucket: Bucket, segments: Sequence[Segment]) -> int:
        other.call("DELETE", "ghost", {"uploadId": upload}, bucket="going")
        assert other.call("DELETE", bucket="going").status == 204
        return crc_of(bucket, segments)

    monkeypatch.setattr(uploads, "crc_of", meanwhile)
    source = {"x-oss-copy-source": "/test-bucket/source"}
    query = {"uploadId": upload, "partNumber": "1"}
    answer = oss.call("PUT", "ghost", query, source, bucket="going")
    assert (answer.status, answer.code) == (404, "NoSuchBucket")
    assert not list(served.storage.directory.glob(".dropped-*"))
    oss.close()
    other.close()


def test_a_get_from_a_bucket_that_goes_meanwhile_gets_all_of_it(
    served: Served, oss: RawClient
) -> None:
    oss.call("PUT", bucket="going")
    served.run(lambda: assemble(served.storage.bucket("going"), b"parts", 8, PART))
    with slow_get(oss, "parts", "going") as pieces:
        first = next(pieces)
        oss.call("DELETE", "parts", bucket="going")
        assert oss.call("DELETE", bucket="going").status == 204
        assert oss.call("PUT", "parts", bucket="going").code == "NoSuchBucket"
        assert len(first + next(pieces)) == 8 * PART
    deadline = time.monotonic() + 10
    while served.run(lambda: list(served.storage.directory.glob(".dropped-*"))):
        assert time.monotonic() < deadline, "what nobody reads any more is removed"


def test_no_bucket_has_the_number_of_an_earlier_one(tmp_path: Path) -> None:
    numbers = []
    for _ in range(3):
        with Storage(tmp_path) as storage:
            numbers.append(storage.bucket("again", create=True).number)
            storage.drop_bucket("again")
    assert len(set(numbers)) == 3
