"""The Python way in: loading without HTTP, and what the directory holds afterwards."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from pathlib import Path

import pytest
from fastcrc import crc64
from hypothesis import given
from hypothesis import strategies as st

from ossfs.emulator.crc import combine
from ossfs.emulator.faults import OssFault
from ossfs.emulator.storage import Bucket, Storage


def data_files(bucket: Bucket) -> int:
    return sum(len(files) for _, _, files in os.walk(bucket.directory))


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_the_crc_of_a_join_comes_from_the_crcs_of_its_pieces(first: bytes, second: bytes) -> None:
    joined = combine(crc64.xz(first), crc64.xz(second), len(second))
    assert joined == crc64.xz(first + second)


def test_objects_put_without_http_are_there_after_reopening(tmp_path: Path) -> None:
    with Storage(tmp_path) as storage:
        bucket = storage.bucket("loaded", create=True)
        bucket.put_bytes(b"a/../b\n", b"data", metadata={"mode": "33188"}, mtime=1_000_000_000)
        bucket.put_symlink(b"link", b"a/../b\n")
    with Storage(tmp_path) as storage:
        bucket = storage.bucket("loaded")
        record = bucket.get(b"a/../b\n")
        assert record.etag == hashlib.md5(b"data").hexdigest().upper()
        assert record.crc64 == crc64.xz(b"data")
        assert (record.mtime, record.metadata.user) == (1_000_000_000, {"mode": "33188"})
        assert bucket.resolve(bucket.get(b"link")).key == record.key


def test_a_tree_is_imported_with_sizes_times_and_digests(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub dir").mkdir(parents=True)
    (source / "empty").write_bytes(b"")
    (source / "sub dir" / "ü").write_bytes(b"x" * 3_000_000)
    os.utime(source / "empty", (1, 1_234_567_890.9))
    os.symlink("empty", source / "link")
    with Storage(tmp_path / "store") as storage:
        bucket = storage.bucket("tree", create=True)
        assert bucket.import_tree(source, b"pre/") == 2
        keys = [entry.key for entry in bucket.page(b"", b"", b"", 10).entries]
        assert keys == [b"pre/empty", "pre/sub dir/ü".encode()]
        assert bucket.get(b"pre/empty").mtime == 1_234_567_890
        big = bucket.get("pre/sub dir/ü".encode())
        assert big.etag == hashlib.md5(b"x" * 3_000_000).hexdigest().upper()
        (segment,) = big.segments
        assert Path(bucket.files.path(segment.file)).read_bytes() == b"x" * 3_000_000


def test_replaced_and_deleted_bytes_leave_the_disk(tmp_path: Path) -> None:
    with Storage(tmp_path) as storage:
        bucket = storage.bucket("space", create=True)
        bucket.put_bytes(b"a", b"1")
        bucket.put_bytes(b"a", b"2")
        with bucket.batch():
            bucket.put_bytes(b"a", b"3")
            bucket.put_bytes(b"a", b"4")
            bucket.put_bytes(b"b", b"5")
        assert data_files(bucket) == 2
        bucket.delete(b"a")
        bucket.delete(b"b")
        assert data_files(bucket) == 0


def test_a_batch_that_fails_changes_nothing(tmp_path: Path) -> None:
    with Storage(tmp_path) as storage:
        bucket = storage.bucket("batch", create=True)
        bucket.put_bytes(b"a", b"before")

        def replace_and_fail() -> None:
            with bucket.batch():
                bucket.put_bytes(b"a", b"after")
                bucket.put_bytes(b"/bad", b"")

        with pytest.raises(OssFault):
            replace_and_fail()
        (segment,) = bucket.get(b"a").segments
        assert Path(bucket.files.path(segment.file)).read_bytes() == b"before"


def test_a_bucket_name_obeys_the_rules(tmp_path: Path) -> None:
    """OSS docs, HTTP status code 400, InvalidBucketName."""
    with Storage(tmp_path) as storage:
        for name in ("ab", "A-b", "-ab", "ab-", "a" * 64, "a.b", "../x"):
            with pytest.raises(OssFault) as caught:
                storage.bucket(name, create=True)
            assert caught.value.code == "InvalidBucketName"
        with pytest.raises(OssFault) as caught:
            storage.bucket("not-there")
        assert caught.value.code == "NoSuchBucket"


def test_the_names_of_the_directory_are_no_bucket_names(tmp_path: Path) -> None:
    with Storage(tmp_path) as storage:
        storage.bucket("lock", create=True).put_bytes(b"a", b"kept")
    with Storage(tmp_path) as storage:
        assert storage.bucket("lock").get(b"a").size == 4
        with pytest.raises(OssFault):
            storage.bucket(".lock", create=True)


def test_a_bucket_that_cannot_be_made_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OSS docs, PutBucket: 409 BucketAlreadyExists for a name that is taken."""
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_bytes(b"somebody's own")
    with Storage(tmp_path) as storage:
        with pytest.raises(OssFault) as caught:
            storage.bucket("taken", create=True)
        assert (caught.value.code, caught.value.status) == ("BucketAlreadyExists", 409)
        makedirs = os.makedirs

        def fail(path: Path, exist_ok: bool) -> None:
            if path.name == "80":
                raise OSError(28, "No space left on device")
            makedirs(path, exist_ok=exist_ok)

        monkeypatch.setattr(os, "makedirs", fail)
        with pytest.raises(OSError, match="No space"):
            storage.bucket("full", create=True)
        monkeypatch.undo()
        assert storage.buckets() == []
        assert not (tmp_path / "full").exists()
        assert storage.bucket("full", create=True).name == "full"
    with Storage(tmp_path) as storage:
        assert [bucket.name for bucket in storage.buckets()] == ["full"]
        assert (tmp_path / "taken" / "file").read_bytes() == b"somebody's own"


def test_a_bucket_that_cannot_be_dropped_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Storage(tmp_path) as storage:
        bucket = storage.bucket("stays", create=True)

        def fail(number: int) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        monkeypatch.setattr(storage.index, "remove_bucket", fail)
        with pytest.raises(sqlite3.OperationalError):
            storage.drop_bucket("stays")
        bucket.put_bytes(b"a", b"kept")
    with Storage(tmp_path) as storage:
        (segment,) = storage.bucket("stays").get(b"a").segments
        assert Path(bucket.files.path(segment.file)).read_bytes() == b"kept"


def test_what_a_kill_left_of_a_dropped_bucket_goes_at_the_next_opening(tmp_path: Path) -> None:
    (tmp_path / ".dropped-1" / "ab").mkdir(parents=True)
    with Storage(tmp_path):
        assert not (tmp_path / ".dropped-1").exists()
