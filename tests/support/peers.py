"""Other programs that mount a bucket, as tests and benchmarks run them beside ours."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.emulator import EmulatorProcess
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


_STORES = {"s3": ("s3fs", "rclone"), "oss": ("ossfs2", "ossfs1")}
_PROGRAMS = {"ossfs1": "ossfs"}
"""What a peer's program is called, where that is not its name here."""
_ELF = b"\x7fELF"


def installed(store: str) -> list[str]:
    """Return the peers of a store ("s3", "oss") that are on PATH; our own scripts are none."""
    found = []
    for name in _STORES[store]:
        path = shutil.which(_PROGRAMS.get(name, name))
        if path is not None:
            with open(path, "rb") as file:
                if file.read(len(_ELF)) == _ELF:
                    found.append(name)
    return found


def peers_on(
    server: WeedProcess | EmulatorProcess, bucket: str, directory: Path, *, attentive: bool = False
) -> dict[str, Callable[[], Peer]]:
    """Return makers of mounts of `bucket` below `directory`, by name: `installed` tells which.

    Each with its defaults; rclone returns from close before it uploads. `attentive` ones see at
    once what others change, and rclone keeps files on disk while they are written, as it must for
    more than a stream.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if isinstance(server, WeedProcess):
        return _s3_peers(server, bucket, directory, attentive=attentive)
    return _oss_peers(server, bucket, directory)


def _s3_peers(
    server: WeedProcess, bucket: str, directory: Path, *, attentive: bool
) -> dict[str, Callable[[], Peer]]:
    def s3fs() -> Peer:
        keys = _private(directory / "passwd-s3fs", f"{server.key_id}:{server.key_secret}\n")
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


def _oss_peers(
    server: EmulatorProcess, bucket: str, directory: Path
) -> dict[str, Callable[[], Peer]]:
    def ossfs2() -> Peer:
        settings = {
            "oss_endpoint": server.endpoint,
            "oss_bucket": bucket,
            "oss_access_key_id": server.key_id,
            "oss_access_key_secret": server.key_secret,
            "log_dir": str(directory / "ossfs2-log"),
            "path_style": "true",  # 2.0.10; earlier ones ignore what they do not know in a file
        }
        path = directory / "ossfs2"
        conf = _private(
            directory / "ossfs2.conf",
            "".join(f"--{name}={value}\n" for name, value in settings.items()),
        )
        command = ["ossfs2", "mount", str(path), "-c", str(conf), "-f"]
        return Peer("ossfs2", command, path, _plain())

    def ossfs1() -> Peer:
        keys = _private(
            directory / "passwd-ossfs", f"{bucket}:{server.key_id}:{server.key_secret}\n"
        )
        path = directory / "ossfs1"
        options = f"url={server.endpoint},passwd_file={keys},use_path_request_style,allow_other"
        return Peer("ossfs1", ["ossfs", bucket, str(path), "-f", "-o", options], path, _plain())

    return {"ossfs2": ossfs2, "ossfs1": ossfs1}


def _private(path: Path, text: str) -> Path:
    """Write a file that holds keys."""
    path.touch(mode=0o600)
    path.write_text(text)
    return path


def _plain() -> dict[str, str]:
    """Return an environment without what other clients would take for keys or certificates."""
    unwanted = re.compile("AWS_|OSS_|RCLONE_")
    return {name: value for name, value in os.environ.items() if not unwanted.match(name)}
