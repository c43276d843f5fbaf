"""A bucket of an S3 server as the tests look at it: by minio, in the words that oss2 has for it."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from minio import Minio
from minio.error import S3Error
from urllib3 import BaseHTTPResponse

from ossfs.store.crc import crc64

_PIECE = 1 << 20


class Head(NamedTuple):
    content_length: int
    content_type: str
    last_modified: int
    headers: Mapping[str, str]


class Body(NamedTuple):
    data: bytes
    headers: Mapping[str, str]

    def read(self) -> bytes:
        return self.data


@dataclass(frozen=True)
class S3Bucket:
    """What the tests need of `oss2.Bucket`, over minio."""

    client: Minio
    bucket_name: str

    def put_object(self, key: str, data: bytes) -> None:
        self.client.put_object(
            bucket_name=self.bucket_name, object_name=key, data=io.BytesIO(data), length=len(data)
        )

    @contextmanager
    def _opened(self, key: str) -> Iterator[BaseHTTPResponse]:
        reply = self.client.get_object(bucket_name=self.bucket_name, object_name=key)
        try:
            yield reply
        finally:
            reply.close()
            reply.release_conn()

    def get_object(self, key: str) -> Body:
        """Return an object's bytes; KeyError where there is none."""
        try:
            with self._opened(key) as reply:
                headers = {name.lower(): value for name, value in reply.headers.items()}
                return Body(reply.read(), headers)
        except S3Error as error:
            if error.code == "NoSuchKey":
                raise KeyError(key) from None
            raise

    def head_object(self, key: str) -> Head:
        told = self.client.stat_object(bucket_name=self.bucket_name, object_name=key)
        assert told.last_modified is not None
        return Head(
            told.size or 0,
            told.content_type or "",
            int(told.last_modified.timestamp()),
            {name.lower(): value for name, value in (told.metadata or {}).items()},
        )

    def object_exists(self, key: str) -> bool:
        return key in self.keys(key)

    def delete_object(self, key: str) -> None:
        self.client.remove_object(bucket_name=self.bucket_name, object_name=key)

    def sweep(self, key: str) -> None:
        """Remove the directories that SeaweedFS keeps for a while above a key that was deleted."""
        while "/" in key.rstrip("/"):
            key = key.rstrip("/").rpartition("/")[0] + "/"
            if any(self.keys(key)):
                return
            self.delete_object(key)

    def keys(self, prefix: str = "") -> Iterator[str]:
        for entry in self.client.list_objects(
            bucket_name=self.bucket_name, prefix=prefix, recursive=True
        ):
            assert entry.object_name is not None
            yield entry.object_name

    def objects(self, prefix: str = "") -> dict[str, bytes]:
        """Return every object's bytes; one of a single part is held against its MD5."""
        found = {}
        for key in self.keys(prefix):
            reply = self.get_object(key)
            found[key.removeprefix(prefix)] = reply.data
            etag = reply.headers["etag"].strip('"')
            assert "-" in etag or etag == hashlib.md5(reply.data).hexdigest()
        return found

    def uploads(self) -> int:
        """Return how many multipart uploads are in progress; minio's own list is not public."""
        reply = self.client._execute(
            method="GET", bucket_name=self.bucket_name, query_params={"uploads": ""}
        )
        return reply.data.count(b"<Upload>")

    def crc64(self, key: str) -> int:
        """Read an object and return its CRC."""
        with self._opened(key) as reply:
            return crc64(reply.stream(_PIECE))
