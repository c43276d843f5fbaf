"""Other programs that mount an S3 bucket, as tests and benchmarks run them beside ours."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.weed import WeedProcess

_PATIENCE_S = 30.0


class Peer:
    """A mount by another program, in the foreground; use as a context manager."""

    def __init__(
        self,
        name: str,
        command: list[str],
        path: Path,
        environment: Mapping[str, str],
    ) -> None:
        self.name = name
        self.path = path
        self._command = command
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Self:
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path.parent / f"{self.name}.log", "ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=dict(self._environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        limit = time.monotonic() + _PATIENCE_S
        while not os.path.ismount(self.path):
            if self._process.poll() is not None or time.monotonic() > limit:
                self.__exit__(None, None, None)
                raise RuntimeError(f"{self.name} does not mount: see {log.name}")
            time.sleep(0.05)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        process, self._process = self._process, None
        assert process is not None
        if os.path.ismount(self.path):
            subprocess.run(["umount", "-l", self.path], check=False, timeout=_PATIENCE_S)
        try:
            process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()


def peers_on(
    server: WeedProcess, bucket: str, directory: Path, *, attentive: bool = False
) -> dict[str, Callable[[], Peer]]:
    """Return makers of mounts of `bucket` below `directory`, by the program's name.

    Each with its defaults; rclone returns from close before it uploads. `attentive` ones see at
    once what others change, and rclone keeps files on disk while they are written, as it must for
    more than a stream.
    """
    directory.mkdir(parents=True, exist_ok=True)

    def s3fs() -> Peer:
        keys = directory / "passwd-s3fs"
        keys.write_text(f"{server.key_id}:{server.key_secret}\n")
        keys.chmod(0o600)
        options = f"url={server.endpoint},use_path_request_style,passwd_file={keys}"
        if attentive:
            options += ",stat_cache_expire=1"
        path = directory / "s3fs"
        return Peer("s3fs", ["s3fs", bucket, str(path), "-f", "-o", options], path, _plain())

    def rclone() -> Peer:
        settings = {
            "RCLONE_CONFIG_S3_TYPE": "s3",
            "RCLONE_CONFIG_S3_PROVIDER": "Other",
            "RCLONE_CONFIG_S3_ENDPOINT": server.endpoint,
            "RCLONE_CONFIG_S3_REGION": server.region,
            "RCLONE_CONFIG_S3_ACCESS_KEY_ID": server.key_id,
            "RCLONE_CONFIG_S3_SECRET_ACCESS_KEY": server.key_secret,
            "RCLONE_CONFIG": "/dev/null",
            "RCLONE_CACHE_DIR": str(directory / "rclone-cache"),
        }
        path = directory / "rclone"
        command = ["rclone", "mount", f"s3:{bucket}", str(path), "--allow-other"]
        if attentive:
            command += ["--vfs-cache-mode=writes", "--dir-cache-time=0s", "--vfs-write-back=0s"]
        return Peer("rclone", command, path, _plain() | settings)

    return {"s3fs": s3fs, "rclone": rclone}


def _plain() -> dict[str, str]:
    """Return an environment without what other clients would take for keys or certificates."""
    unwanted = re.compile("AWS_|OSS_|RCLONE_")
    return {name: value for name, value in os.environ.items() if not unwanted.match(name)}
