"""SeaweedFS as the tests and benchmarks use it: an S3 server that we did not write."""

from __future__ import annotations

import copy
import os
import re
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from minio import Minio

from ossfs.cli import seaweed
from tests.support.emulator import BUCKET, KEY_ID, KEY_SECRET

REGION = "us-east-1"
_METRIC = re.compile(r"^SeaweedFS_(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)


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
        self._metrics_port = 0

    @property
    def endpoint(self) -> str:
        """http://127.0.0.1:PORT"""
        assert self._server is not None, "SeaweedFS is not running"
        return self._server.endpoint

    @property
    def pid(self) -> int:
        assert self._server is not None, "SeaweedFS is not running"
        return self._server.process.pid

    def reached_at(self, port: int) -> WeedProcess:
        """Return the same server as one that answers at another port; not to be entered."""
        assert self._server is not None, "SeaweedFS is not running"
        other = copy.copy(self)
        other._server = self._server._replace(port=port)
        return other

    def vacuum(self) -> None:
        """Give back the room of what has been deleted, which it does by itself after a while."""
        assert self._server is not None, "SeaweedFS is not running"
        url = f"http://127.0.0.1:{self._server.master_port}/vol/vacuum?garbageThreshold=0.001"
        with urllib.request.urlopen(url, timeout=60) as reply:
            reply.read()

    def metrics(self) -> dict[tuple[str, str], float]:
        """Return its counters by name (without `SeaweedFS_`) and labels (`type="GET",...`)."""
        url = f"http://127.0.0.1:{self._metrics_port}/metrics"
        with urllib.request.urlopen(url, timeout=10) as reply:
            found = _METRIC.findall(reply.read().decode())
        return {(name, labels): float(value) for name, labels, value in found}

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
        (self._metrics_port,) = seaweed.free_ports(1)
        # Without the former a put would make its bucket.
        more = ["-s3.autoCreateBucket=false", f"-metricsPort={self._metrics_port}"]
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
