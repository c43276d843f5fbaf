"""Buckets as directories: DIR/BUCKET/ab/ab12.. holds bytes, DIR/index.sqlite says whose they are.

A data file gets a name of its own that has nothing to do with the key, is written in full, and
is named in the index afterwards; that commit is the replacement, and the old files are unlinked
after it, once nobody reads them any more. Copies and part copies share files by
hard link. What a kill left behind unnamed is swept when the directory is next opened.

No bucket's name begins with a dot, so those of DIR that do are free: DIR/.lock, and
DIR/.dropped-*, which held a bucket that somebody still works with.

Everything here runs in one thread and in one process: the directory is locked.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from fastcrc import crc64 as fast_crc64

from ossfs.emulator.crc import combine
from ossfs.emulator.faults import OssFault
from ossfs.emulator.files import Body, DataFiles, OpenFiles
from ossfs.emulator.index import Index, Listing
from ossfs.emulator.records import (
    APPENDABLE,
    NORMAL,
    PLAIN,
    SYMLINK,
    Limits,
    Metadata,
    Record,
    Segment,
)
from ossfs.runtime.failure import UserError

_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_KEPT_RECORDS = 100_000
_COPY_BLOCK = 1 << 20
_DROPPED = ".dropped-"


class Storage:
    """Every bucket of one directory."""

    def __init__(
        self,
        directory: str | os.PathLike[str],
        limits: Limits | None = None,
        *,
        fast_etags: bool = False,
    ) -> None:
        self.directory = Path(directory)
        self.fast_etags = fast_etags
        self.limits = limits or Limits()
        self.directory.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise UserError(
                f"{self.directory} is in use by another emulator; stop it or choose another --dir"
            ) from None
        unclean = os.read(self._lock, 1) != b""
        os.pwrite(self._lock, b"open", 0)
        self.index = Index(self.directory / "index.sqlite")
        self.opened = OpenFiles()
        for left in self.directory.glob(f"{_DROPPED}*"):
            shutil.rmtree(left)
        self._buckets = {
            name: Bucket(self, number, name, created)
            for number, name, created in self.index.buckets()
        }
        if unclean:
            for bucket in self._buckets.values():
                bucket.sweep()

    def bucket(self, name: str, *, create: bool = False) -> Bucket:
        """Return a bucket; make it first where `create`.

        Raises NoSuchBucket, InvalidBucketName, and BucketAlreadyExists for a name that
        something else in the directory has.
        """
        bucket = self._buckets.get(name)
        if bucket is not None:
            return bucket
        if not _BUCKET_NAME.fullmatch(name):
            raise OssFault("InvalidBucketName", details={"BucketName": name})
        if not create:
            raise OssFault("NoSuchBucket", details={"BucketName": name})
        bucket = self._buckets[name] = self._make_bucket(name)
        return bucket

    def _make_bucket(self, name: str) -> Bucket:
        """Enter a bucket and make its directory: both, or after an exception neither.

        A kill in between leaves the entry, and the next opening makes the directory.
        """
        now = int(time.time())
        with ExitStack() as undo:
            number = self.index.add_bucket(name, now)
            undo.callback(self.index.remove_bucket, number)
            directory = self.directory / name
            try:
                directory.mkdir()
            except FileExistsError:
                raise OssFault("BucketAlreadyExists", details={"BucketName": name}) from None
            undo.callback(shutil.rmtree, directory)
            bucket = Bucket(self, number, name, now)
            undo.pop_all()
        return bucket

    def buckets(self) -> list[Bucket]:
        """Return every bucket by name."""
        return [self._buckets[name] for name in sorted(self._buckets)]

    def drop_bucket(self, name: str) -> None:
        """Remove an empty bucket."""
        bucket = self.bucket(name)
        if not self.index.is_empty(bucket.number):
            raise OssFault("BucketNotEmpty", details={"BucketName": name})
        bucket.files.move(self.directory / f"{_DROPPED}{bucket.files.new()}")
        try:
            self.index.remove_bucket(bucket.number)
        except BaseException:
            bucket.files.move(bucket.directory)
            raise
        bucket.gone = True
        del self._buckets[name]
        bucket.files.remove()

    def close(self) -> None:
        for bucket in self._buckets.values():
            bucket.files.close()
        self.index.close()
        os.ftruncate(self._lock, 0)
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Bucket:
    """One bucket's objects and uploads. Made by `Storage.bucket`.

    Requests that were under way when it was dropped find that it is `gone`.
    """

    def __init__(self, storage: Storage, number: int, name: str, created: int) -> None:
        self.index = storage.index
        self.limits = storage.limits
        self._fast_etags = storage.fast_etags
        self.number = number
        self.name = name
        self.created = created
        """Seconds since the epoch."""
        self.gone = False
        self.directory = storage.directory / name
        self.files = DataFiles(self.directory, storage.opened)
        self._records: dict[bytes, Record] = {}
        self._batching = False
        self._doomed: list[Segment] = []

    def drop(self, segments: Sequence[Segment]) -> None:
        """Unlink data files, once the index on disk names them no more."""
        if self._batching:
            self._doomed += segments
        else:
            self.files.unlink(segments)

    def sweep(self) -> None:
        """Unlink data files that nothing names: those of writes that a kill cut short."""
        self.files.sweep(self.index.files(self.number))

    # Objects

    def check_key(self, key: bytes) -> None:
        """Raise InvalidObjectName for a key that OSS does not take."""
        if not 1 <= len(key) <= self.limits.key or key[0] in b"/\\":
            raise OssFault("InvalidObjectName")
        try:
            key.decode()
        except UnicodeDecodeError:
            raise OssFault("InvalidObjectName") from None

    def check_there(self) -> None:
        """Raise NoSuchBucket when the bucket went since the caller got it."""
        if self.gone:
            raise OssFault("NoSuchBucket", details={"BucketName": self.name})

    def find(self, key: bytes) -> Record | None:
        """Return an object's record, None where there is none; raises NoSuchBucket."""
        self.check_there()
        record = self._records.get(key)
        if record is None:
            record = self.index.get(self.number, key)
            if record is not None:
                if len(self._records) >= _KEPT_RECORDS:
                    self._records.clear()
                self._records[key] = record
        return record

    def get(self, key: bytes) -> Record:
        """Return an object's record; raises NoSuchKey."""
        record = self.find(key)
        if record is None:
            raise OssFault("NoSuchKey", details={"Key": key.decode("utf-8", "backslashreplace")})
        return record

    def resolve(self, record: Record) -> Record:
        """Follow a symlink; raises SymlinkTargetNotExist, InvalidTargetType."""
        if record.type != SYMLINK:
            return record
        assert record.target is not None
        target = self.find(record.target)
        if target is None:
            raise OssFault("SymlinkTargetNotExist")
        if target.type == SYMLINK:
            raise OssFault("InvalidTargetType")
        return target

    def body(self, limit: int) -> Body:
        """Begin to receive up to `limit` bytes."""
        return Body(self.files, limit, md5=not self._fast_etags)

    def check_free(self, key: bytes, forbid_overwrite: bool) -> None:
        """Raise FileAlreadyExists when `forbid_overwrite` meets an object."""
        if forbid_overwrite and self.find(key) is not None:
            raise OssFault("FileAlreadyExists")

    def commit(self, record: Record, *, keep: Sequence[Segment] = ()) -> Record:
        """Make a record the object of its key; unlink what it replaces, `keep` excepted."""
        old = self.find(record.key)
        self.index.put(self.number, record)
        self._records[record.key] = record
        if old is not None:
            kept = {segment.file for segment in keep}
            self.drop([segment for segment in old.segments if segment.file not in kept])
        return record

    def put(self, key: bytes, body: Body, metadata: Metadata) -> Record:
        """Make what came in an object."""
        return self.commit(
            Record(
                key,
                NORMAL,
                body.size,
                int(time.time()),
                body.etag,
                body.crc64,
                metadata,
                body.keep(),
            )
        )

    def put_bytes(
        self,
        key: bytes,
        data: bytes = b"",
        *,
        metadata: Mapping[str, str] | None = None,
        content_type: str | None = None,
        storage_class: str = "Standard",
        mtime: int | None = None,
    ) -> Record:
        """Make an object without HTTP; many are quickest inside `batch`."""
        self.check_key(key)
        with self.body(self.limits.put) as body:
            body.write(data)
            return self.commit(
                Record(
                    key,
                    NORMAL,
                    body.size,
                    int(time.time()) if mtime is None else mtime,
                    body.etag,
                    body.crc64,
                    Metadata(
                        {"Content-Type": content_type or "application/octet-stream"},
                        dict(metadata or {}),
                        storage_class,
                    ),
                    body.keep(),
                )
            )

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Commit everything inside at once; all of it is lost if the process dies before.

        Replaced files are unlinked after the commit: until then the index on disk names them.
        """
        if self._batching:
            yield
            return
        self._batching = True
        try:
            with self.index.batch():
                yield
        except BaseException:
            self._records.clear()
            self._doomed.clear()
            raise
        finally:
            self._batching = False
        doomed, self._doomed = self._doomed, []
        self.files.unlink(doomed)

    def import_tree(self, source: str | os.PathLike[str], prefix: bytes = b"") -> int:
        """Make an object of every regular file under `source`; return how many.

        Keys are `prefix` and the path below `source`; modification times are kept in whole
        seconds. Symbolic links and special files are left out.
        """
        root = os.fsencode(source)
        count = 0
        with self.batch():
            for folder, folders, names in os.walk(root):
                folders.sort()
                for name in sorted(names):
                    path = os.path.join(folder, name)
                    info = os.lstat(path)
                    if not stat.S_ISREG(info.st_mode):
                        continue
                    self._import_file(prefix + os.path.relpath(path, root), path, info)
                    count += 1
        return count

    def _import_file(self, key: bytes, path: bytes, info: os.stat_result) -> None:
        self.check_key(key)
        with self.body(self.limits.put) as body, open(path, "rb") as file:
            while block := file.read(_COPY_BLOCK):
                body.write(block)
            segments = body.keep()
            record = Record(
                key,
                NORMAL,
                body.size,
                int(info.st_mtime),
                body.etag,
                body.crc64,
                Metadata({"Content-Type": "application/octet-stream"}),
                segments,
            )
        self.commit(record)

    def put_symlink(self, key: bytes, target: bytes, metadata: Metadata = PLAIN) -> Record:
        self.check_key(key)
        digest = hashlib.md5(target, usedforsecurity=False).hexdigest().upper()
        return self.commit(
            Record(
                key,
                SYMLINK,
                len(target),
                int(time.time()),
                digest,
                fast_crc64.xz(target),
                metadata,
                (),
                target,
            )
        )

    def append(self, key: bytes, position: int, body: Body, metadata: Metadata) -> Record:
        """Append what came in at `position`, which must be the object's length.

        Nothing appended changes nothing, unless it makes the object.
        """
        old = self.find(key)
        if old is not None and old.type != APPENDABLE:
            raise OssFault("ObjectNotAppendable")
        size = old.size if old else 0
        if position != size:
            raise OssFault(
                "PositionNotEqualToLength",
                headers=[("x-oss-next-append-position", str(size))],
            )
        if size + body.size > self.limits.append:
            raise OssFault("EntityTooLarge")
        if old is not None and not body.size:
            return old
        now = int(time.time())
        if old is None:
            etag = hashlib.md5(body.etag.encode(), usedforsecurity=False).hexdigest().upper()
            return self.commit(
                Record(key, APPENDABLE, body.size, now, etag, body.crc64, metadata, body.keep())
            )
        etag = (
            hashlib.md5((old.etag + body.etag).encode(), usedforsecurity=False).hexdigest().upper()
        )
        segments = old.segments
        if not segments:
            segments = body.keep()
        else:
            file = segments[0].file
            fd = self.files.descriptor(file, os.O_RDWR)
            try:
                body.copy_to(fd, size)
            finally:
                os.close(fd)
            segments = (Segment(file, 0, size + body.size),)
        return self.commit(
            Record(
                key,
                APPENDABLE,
                size + body.size,
                now,
                etag,
                combine(old.crc64, body.crc64, body.size),
                old.metadata,
                segments,
            ),
            keep=old.segments,
        )

    def describe(self, record: Record, metadata: Metadata, mtime: int) -> Record:
        """Give an object other metadata; its bytes, type and ETag stay."""
        return self.commit(
            replace(record, metadata=metadata, mtime=mtime, head=None), keep=record.segments
        )

    def copy(self, source: Bucket, record: Record, key: bytes, metadata: Metadata) -> Record:
        """Make `key` an object of the bytes (or the link) that `record` of `source` holds."""
        return self.commit(
            replace(
                record,
                key=key,
                type=NORMAL if record.type == APPENDABLE else record.type,
                mtime=int(time.time()),
                metadata=metadata,
                segments=self.files.take(source.files, record.segments),
                head=None,
            )
        )

    def delete(self, key: bytes) -> None:
        """Remove an object; a missing one is no error."""
        old = self.find(key)
        if old is None:
            return
        self.index.remove(self.number, key)
        del self._records[key]
        self.drop(old.segments)

    def page(self, prefix: bytes, delimiter: bytes, start: bytes, limit: int) -> Listing:
        """Return up to `limit` entries and common prefixes from key `start` on, inclusive."""
        return self.index.page(self.number, prefix, delimiter, start, limit)
