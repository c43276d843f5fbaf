"""The two official SDKs take a tour of an emulator process, each signing V1, V4 and with STS."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import alibabacloud_oss_v2 as oss_v2
import oss2
import pytest

from tests.support.emulator import EmulatorProcess

BLOCK = bytes(range(256)) * 800  # 204,800 bytes: a part of legal size


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    with EmulatorProcess(tmp_path_factory.mktemp("plain")) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def sts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    with EmulatorProcess(tmp_path_factory.mktemp("sts"), token="an-sts/token+==") as emulator:
        yield emulator


@pytest.fixture(params=["v1", "v4", "sts-v1", "sts-v4"])
def signing(
    request: pytest.FixtureRequest, plain: EmulatorProcess, sts: EmulatorProcess
) -> tuple[EmulatorProcess, bool]:
    name: str = request.param
    return (sts if name.startswith("sts") else plain), name.endswith("v4")


@pytest.fixture
def bucket(signing: tuple[EmulatorProcess, bool]) -> Iterator[oss2.Bucket]:
    emulator, v4 = signing
    session = oss2.Session()
    bucket = emulator.oss2_bucket(v4=v4, session=session)
    yield bucket
    _empty(bucket)
    session.session.close()


def _empty(bucket: oss2.Bucket) -> None:
    keys = [found.key for found in oss2.ObjectIteratorV2(bucket, max_keys=1000)]
    for start in range(0, len(keys), 1000):
        bucket.batch_delete_objects(keys[start : start + 1000])


def v2_client(emulator: EmulatorProcess, v4: bool, *additional_headers: str) -> oss_v2.Client:
    configuration = oss_v2.config.load_default()
    configuration.credentials_provider = oss_v2.credentials.StaticCredentialsProvider(
        emulator.key_id, emulator.key_secret, emulator.token
    )
    configuration.region = emulator.region
    configuration.endpoint = emulator.endpoint
    configuration.use_path_style = True
    configuration.signature_version = "v4" if v4 else "v1"
    configuration.additional_headers = list(additional_headers)
    return oss_v2.Client(configuration)


@pytest.fixture
def client(signing: tuple[EmulatorProcess, bool]) -> Iterator[oss_v2.Client]:
    emulator, v4 = signing
    yield v2_client(emulator, v4)
    session = oss2.Session()
    _empty(emulator.oss2_bucket(session=session))
    session.session.close()


def test_oss2_puts_gets_and_describes(bucket: oss2.Bucket) -> None:
    key = "a b/naïve-文件+%.txt"
    put = bucket.put_object(key, b"hello", headers={"x-oss-meta-mode": "420"})
    assert put.etag == hashlib.md5(b"hello").hexdigest().upper()
    got = bucket.get_object(key)
    assert got.read() == b"hello"
    assert got.client_crc == got.server_crc == put.crc
    assert bucket.get_object(key, byte_range=(1, 3)).read() == b"ell"
    assert bucket.get_object(key, byte_range=(None, 2)).read() == b"lo"
    head = bucket.head_object(key)
    assert head.headers["x-oss-meta-mode"] == "420"
    assert (head.content_length, head.object_type) == (5, "Normal")
    assert bucket.get_object_meta(key).content_length == 5
    assert bucket.object_exists(key)
    assert not bucket.object_exists("not there")
    bucket.delete_object(key)
    assert not bucket.object_exists(key)


def test_oss2_lists_in_pages(bucket: oss2.Bucket) -> None:
    keys = sorted(f"dir{n % 3}/file {n:02d}" for n in range(25))
    for key in keys:
        bucket.put_object(key, b"")
    for iterator in (oss2.ObjectIterator, oss2.ObjectIteratorV2):
        assert [found.key for found in iterator(bucket, max_keys=7)] == keys
        top = list(iterator(bucket, delimiter="/", max_keys=2))
        assert [found.key for found in top] == ["dir0/", "dir1/", "dir2/"]
        assert all(found.is_prefix() for found in top)
    page = bucket.list_objects_v2("dir1/", max_keys=3, fetch_owner=True)
    assert page.is_truncated
    assert [found.size for found in page.object_list] == [0, 0, 0]
    assert page.object_list[0].owner.id


def test_oss2_uploads_in_parts(bucket: oss2.Bucket) -> None:
    bucket.put_object("source", BLOCK)
    upload = bucket.init_multipart_upload("whole").upload_id
    assert [found.key for found in oss2.MultipartUploadIterator(bucket)] == ["whole"]
    first = bucket.upload_part("whole", upload, 1, BLOCK)
    second = bucket.upload_part_copy(
        bucket.bucket_name, "source", (100, 150_000), "whole", upload, 2
    )
    third = bucket.upload_part("whole", upload, 3, b"end")
    parts = list(oss2.PartIterator(bucket, "whole", upload))
    assert [found.size for found in parts] == [len(BLOCK), 149_901, 3]
    assert [found.etag for found in parts] == [first.etag, second.etag, third.etag]
    done = bucket.complete_multipart_upload("whole", upload, parts)
    assert done.etag.endswith("-3")
    expected = BLOCK + BLOCK[100:150_001] + b"end"
    got = bucket.get_object("whole")
    assert got.read() == expected
    assert got.client_crc == got.server_crc == done.crc
    aborted = bucket.init_multipart_upload("dropped").upload_id
    bucket.abort_multipart_upload("dropped", aborted)
    assert not list(oss2.MultipartUploadIterator(bucket))


def test_oss2_appends_copies_and_links(bucket: oss2.Bucket) -> None:
    first = bucket.append_object("log", 0, b"one", init_crc=0)
    bucket.append_object("log", first.next_position, b"two", init_crc=first.crc)
    with pytest.raises(oss2.exceptions.PositionNotEqualToLength) as caught:
        bucket.append_object("log", 0, b"three")
    assert caught.value.next_position == 6
    bucket.copy_object(bucket.bucket_name, "log", "copy of log")
    assert bucket.get_object("copy of log").read() == b"onetwo"
    bucket.update_object_meta("copy of log", {"x-oss-meta-a": "b"})
    assert bucket.head_object("copy of log").headers["x-oss-meta-a"] == "b"
    bucket.put_symlink("copy of log", "link")
    assert bucket.get_symlink("link").target_key == "copy of log"
    assert bucket.get_object("link").read() == b"onetwo"
    deleted = bucket.batch_delete_objects(["log", "link", "copy of log", "never"])
    assert deleted.deleted_keys == ["log", "link", "copy of log", "never"]
    bucket.put_object("plain", b"x")
    with pytest.raises(oss2.exceptions.ObjectNotAppendable):
        bucket.append_object("plain", 1, b"y")


def test_oss2_names_the_errors(bucket: oss2.Bucket) -> None:
    with pytest.raises(oss2.exceptions.NoSuchKey):
        bucket.get_object("missing")
    with pytest.raises(oss2.exceptions.NoSuchKey):
        bucket.head_object("missing")
    with pytest.raises(oss2.exceptions.NoSuchUpload):
        bucket.upload_part("missing", "0" * 32, 1, b"x")
    etag = bucket.put_object("present", b"x").etag
    with pytest.raises(oss2.exceptions.PreconditionFailed):
        bucket.get_object("present", headers={"If-Match": '"0"'})
    with pytest.raises(oss2.exceptions.NotModified):
        bucket.get_object("present", headers={"If-None-Match": etag})
    with pytest.raises(oss2.exceptions.ServerError) as caught:
        bucket.put_object("present", b"y", headers={"x-oss-forbid-overwrite": "true"})
    assert (caught.value.status, caught.value.code) == (409, "FileAlreadyExists")


def test_oss2_asks_about_the_bucket(
    signing: tuple[EmulatorProcess, bool], bucket: oss2.Bucket
) -> None:
    emulator, _ = signing
    assert bucket.get_bucket_info().name == emulator.bucket
    assert bucket.get_bucket_location().location == "oss-cn-hangzhou"
    session = oss2.Session()
    service = oss2.Service(bucket.auth, emulator.endpoint, session=session, region=emulator.region)
    assert emulator.bucket in [found.name for found in oss2.BucketIterator(service)]
    other = oss2.Bucket(
        bucket.auth, emulator.endpoint, "another-bucket", session=session, region=emulator.region
    )
    other.create_bucket()
    other.put_object("x", b"y")
    with pytest.raises(oss2.exceptions.BucketNotEmpty):
        other.delete_bucket()
    other.delete_object("x")
    other.delete_bucket()
    with pytest.raises(oss2.exceptions.NoSuchBucket):
        other.get_object("x")
    session.session.close()


BUCKET = "test-bucket"


def test_v2_puts_gets_and_describes(client: oss_v2.Client) -> None:
    key = "a b/naïve-文件+%.txt"
    put = client.put_object(
        oss_v2.PutObjectRequest(bucket=BUCKET, key=key, body=b"hello", metadata={"mode": "420"})
    )
    assert put.hash_crc64 is not None
    got = client.get_object(oss_v2.GetObjectRequest(bucket=BUCKET, key=key))
    assert got.body.read() == b"hello"
    assert got.metadata["mode"] == "420"
    ranged = client.get_object(
        oss_v2.GetObjectRequest(
            bucket=BUCKET, key=key, range_header="bytes=1-100", range_behavior="standard"
        )
    )
    assert (ranged.status_code, ranged.body.read()) == (206, b"ello")
    head = client.head_object(oss_v2.HeadObjectRequest(bucket=BUCKET, key=key))
    assert (head.content_length, head.object_type) == (5, "Normal")
    meta = client.get_object_meta(oss_v2.GetObjectMetaRequest(bucket=BUCKET, key=key))
    assert meta.content_length == 5
    assert client.is_object_exist(BUCKET, key)
    client.delete_object(oss_v2.DeleteObjectRequest(bucket=BUCKET, key=key))
    assert not client.is_object_exist(BUCKET, key)


def test_v2_lists_in_pages(client: oss_v2.Client) -> None:
    keys = sorted(f"dir{n % 3}/file {n:02d}" for n in range(25))
    for key in keys:
        client.put_object(oss_v2.PutObjectRequest(bucket=BUCKET, key=key, body=b""))
    for paginator, request in (
        (client.list_objects_paginator(limit=7), oss_v2.ListObjectsRequest(bucket=BUCKET)),
        (client.list_objects_v2_paginator(limit=7), oss_v2.ListObjectsV2Request(bucket=BUCKET)),
    ):
        pages = list(paginator.iter_page(request))
        assert len(pages) == 4
        assert [found.key for page in pages for found in page.contents] == keys
    page = client.list_objects_v2(
        oss_v2.ListObjectsV2Request(bucket=BUCKET, delimiter="/", max_keys=2)
    )
    assert [found.prefix for found in page.common_prefixes] == ["dir0/", "dir1/"]
    assert page.is_truncated


def test_v2_uploads_in_parts(client: oss_v2.Client) -> None:
    client.put_object(oss_v2.PutObjectRequest(bucket=BUCKET, key="source", body=BLOCK))
    upload = client.initiate_multipart_upload(
        oss_v2.InitiateMultipartUploadRequest(bucket=BUCKET, key="whole")
    ).upload_id
    first = client.upload_part(
        oss_v2.UploadPartRequest(
            bucket=BUCKET, key="whole", upload_id=upload, part_number=1, body=BLOCK
        )
    )
    second = client.upload_part_copy(
        oss_v2.UploadPartCopyRequest(
            bucket=BUCKET,
            key="whole",
            upload_id=upload,
            part_number=2,
            source_key="source",
            source_range="bytes=5-9",
        )
    )
    listed = client.list_parts(
        oss_v2.ListPartsRequest(bucket=BUCKET, key="whole", upload_id=upload)
    )
    assert [found.size for found in listed.parts] == [len(BLOCK), 5]
    parts = [
        oss_v2.UploadPart(part_number=1, etag=first.etag),
        oss_v2.UploadPart(part_number=2, etag=second.etag),
    ]
    done = client.complete_multipart_upload(
        oss_v2.CompleteMultipartUploadRequest(
            bucket=BUCKET,
            key="whole",
            upload_id=upload,
            complete_multipart_upload=oss_v2.CompleteMultipartUpload(parts=parts),
        )
    )
    assert done.etag.strip('"').endswith("-2")
    got = client.get_object(oss_v2.GetObjectRequest(bucket=BUCKET, key="whole"))
    assert got.body.read() == BLOCK + BLOCK[5:10]


def test_v2_transfers_files_by_its_managers(client: oss_v2.Client, tmp_path: Path) -> None:
    data = BLOCK * 8
    uploader = client.uploader(part_size=300_000, parallel_num=2)
    uploader.upload_from(oss_v2.PutObjectRequest(bucket=BUCKET, key="file"), io.BytesIO(data))
    downloader = client.downloader(part_size=200_000, parallel_num=2)
    target = tmp_path / "file"
    downloader.download_file(oss_v2.GetObjectRequest(bucket=BUCKET, key="file"), str(target))
    assert target.read_bytes() == data


def test_v2_signs_more_headers_where_told(plain: EmulatorProcess) -> None:
    client = v2_client(plain, True, "host", "range", "user-agent")
    client.put_object(oss_v2.PutObjectRequest(bucket=BUCKET, key="signed", body=b"0123456789"))
    got = client.get_object(
        oss_v2.GetObjectRequest(bucket=BUCKET, key="signed", range_header="bytes=2-3")
    )
    assert got.body.read() == b"23"
    client.delete_object(oss_v2.DeleteObjectRequest(bucket=BUCKET, key="signed"))


def test_v2_appends_copies_and_links(client: oss_v2.Client) -> None:
    for position, data in ((0, b"one"), (3, b"two")):
        answer = client.append_object(
            oss_v2.AppendObjectRequest(bucket=BUCKET, key="log", position=position, body=data)
        )
        assert answer.next_position == position + 3
    client.copy_object(oss_v2.CopyObjectRequest(bucket=BUCKET, key="copy", source_key="log"))
    client.put_symlink(oss_v2.PutSymlinkRequest(bucket=BUCKET, key="link", symlink_target="copy"))
    link = client.get_symlink(oss_v2.GetSymlinkRequest(bucket=BUCKET, key="link"))
    assert link.target == "copy"
    got = client.get_object(oss_v2.GetObjectRequest(bucket=BUCKET, key="link"))
    assert got.body.read() == b"onetwo"
    deleted = client.delete_multiple_objects(
        oss_v2.DeleteMultipleObjectsRequest(
            bucket=BUCKET,
            objects=[oss_v2.DeleteObject(key="log"), oss_v2.DeleteObject(key="never was")],
            encoding_type="url",
        )
    )
    assert [found.key for found in deleted.deleted_objects] == ["log", "never was"]


def test_v2_names_the_errors(client: oss_v2.Client) -> None:
    cases = [
        (oss_v2.GetObjectRequest(bucket=BUCKET, key="missing"), 404, "NoSuchKey"),
        (oss_v2.GetObjectRequest(bucket="no-such-bucket", key="x"), 404, "NoSuchBucket"),
    ]
    for request, status, code in cases:
        with pytest.raises(oss_v2.exceptions.OperationError) as caught:
            client.get_object(request)
        error = caught.value.unwrap()
        assert isinstance(error, oss_v2.exceptions.ServiceError)
        assert (error.status_code, error.code) == (status, code)
        assert error.request_id
    with pytest.raises(oss_v2.exceptions.OperationError) as caught:
        client.head_object(oss_v2.HeadObjectRequest(bucket=BUCKET, key="missing"))
    error = caught.value.unwrap()
    assert isinstance(error, oss_v2.exceptions.ServiceError)
    assert (error.status_code, error.code) == (404, "NoSuchKey")


def test_v2_asks_about_the_bucket(client: oss_v2.Client) -> None:
    info = client.get_bucket_info(oss_v2.GetBucketInfoRequest(bucket=BUCKET))
    assert info.bucket_info.name == BUCKET
    location = client.get_bucket_location(oss_v2.GetBucketLocationRequest(bucket=BUCKET))
    assert location.location == "oss-cn-hangzhou"
    found = client.list_buckets(oss_v2.ListBucketsRequest())
    assert BUCKET in [bucket.name for bucket in found.buckets]
