"""SeaweedFS as the tests and benchmarks use it: an S3 server that we did not write."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from minio import Minio

from ossfs.cli import seaweed
from tests.support.emulator import BUCKET, KEY_ID, KEY_SECRET

REGION = "us-east-1"


class WeedProcess:
    """`weed server -s3` with one bucket; use as a context manager."""

    scheme = "s3"
    region = REGION
    token = None
    bucket = BUCKET
    key_id = KEY_ID
    key_secret = KEY_SECRET

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)
        self._server: seaweed.Seaweed | None = None

    @property
    def endpoint(self) -> str:
        """http://127.0.0.1:PORT"""
        assert self._server is not None, "SeaweedFS is not running"
        return self._server.endpoint

    def client(self) -> Minio:
        """Return minio's own client of this server: the second opinion."""
        return Minio(
            endpoint=self.endpoint.removeprefix("http://"),
            access_key=self.key_id,
            secret_key=self.key_secret,
            secure=False,
            region=self.region,
        )

    def make_bucket(self, name: str) -> None:
        """Make a bucket."""
        self.client().make_bucket(bucket_name=name)

    def __enter__(self) -> Self:
        # Else a put would make its bucket.
        more = ["-s3.autoCreateBucket=false"]
        self._server = seaweed.start(
            self.directory, self.key_id, self.key_secret, tied=True, more=more
        )
        try:
            self._server.wait()
            if not self.client().bucket_exists(bucket_name=self.bucket):
                self.make_bucket(self.bucket)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.process.kill()
            server.process.wait()
