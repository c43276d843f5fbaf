"""An emulator in a process of its own, for tests and benchmarks.

The process holds a pipe from its parent as standard input and ends when that closes, so none is
left behind even where the tests are killed.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import oss2

KEY_ID = "test-key-id"
KEY_SECRET = "test-key-secret"
REGION = "cn-hangzhou"
BUCKET = "test-bucket"


class EmulatorProcess:
    """`python -m ossfs.emulator` on a free loopback port; use as a context manager.

    Objects loaded with `ossfs.emulator.storage.Storage(directory)` before the start are there;
    while it runs the directory is locked. `open_files` is how many it may have open.
    """

    scheme = "oss"

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        bucket: str = BUCKET,
        latency_ms: float = 0.0,
        bandwidth_mb: float = 0.0,
        key_id: str = KEY_ID,
        key_secret: str = KEY_SECRET,
        token: str | None = None,
        token_expires: float | None = None,
        dated_tokens: bool = False,
        public: bool = False,
        region: str = REGION,
        port: int = 0,
        request_log: bool = True,
        fast_etags: bool = False,
        open_files: int | None = None,
    ) -> None:
        self.directory = Path(directory)
        self.bucket = bucket
        self.key_id = key_id
        self.key_secret = key_secret
        self.token = token
        self.region = region
        self.port = port
        self._latency_ms = latency_ms
        self._bandwidth_mb = bandwidth_mb
        self._token_expires = token_expires
        self._dated_tokens = dated_tokens
        self._public = public
        self._fast_etags = fast_etags
        self._open_files = open_files
        self._log: Path | None = None
        if request_log:
            descriptor, name = tempfile.mkstemp(prefix="ossfs-requests-", suffix=".jsonl")
            os.close(descriptor)
            self._log = Path(name)
        self._process: subprocess.Popen[str] | None = None

    @property
    def endpoint(self) -> str:
        """http://127.0.0.1:PORT"""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the emulator is not running"
        return self._process.pid

    def start(self) -> Self:
        """Start and wait until it serves."""
        assert self._process is None, "the emulator is running already"
        command = [sys.executable, "-m", "ossfs.emulator", "--dir", str(self.directory)]
        command += ["--port", str(self.port), "--bucket", self.bucket, "--region", self.region]
        command.append("--until-stdin-closes")
        if self._latency_ms:
            command += ["--latency-ms", str(self._latency_ms)]
        if self._bandwidth_mb:
            command += ["--bandwidth-mb", str(self._bandwidth_mb)]
        if self._fast_etags:
            command.append("--fast-etags")
        if self._log is not None:
            command += ["--request-log", str(self._log)]
        if self._token_expires is not None:
            command += ["--security-token-expires", str(self._token_expires)]
        if self._public:
            command.append("--public")
        if self._dated_tokens:
            command.append("--dated-tokens")
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in ("OSS_SESSION_TOKEN", "OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET")
        }
        environment["OSS_ACCESS_KEY_ID"] = self.key_id
        environment["OSS_ACCESS_KEY_SECRET"] = self.key_secret
        if self.token is not None:
            environment["OSS_SESSION_TOKEN"] = self.token
        root = str(Path(__file__).resolve().parents[2])
        environment["PYTHONPATH"] = os.pathsep.join(
            [root, *filter(None, [environment.get("PYTHONPATH")])]
        )
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
            preexec_fn=None if self._open_files is None else self._limit_open_files,
            start_new_session=True,  # a Ctrl-C at the tests' terminal is for the tests alone
        )
        self._process = process
        assert process.stdout is not None
        line = process.stdout.readline()
        if "listening on" not in line:
            self.kill()
            raise RuntimeError(f"the emulator did not start: {line!r}, {' '.join(command)}")
        self.port = int(line.partition("http://")[2].partition(" ")[0].rpartition(":")[2])
        return self

    def _limit_open_files(self) -> None:
        assert self._open_files is not None
        resource.setrlimit(resource.RLIMIT_NOFILE, (self._open_files, self._open_files))

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    def stop(self) -> None:
        """SIGTERM, and wait; nothing when it is not running."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, and wait; nothing when it is not running."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop it if it runs, and start it again on the same port and directory."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Stop it from answering while connections stay open (SIGSTOP)."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start() if self._process is None else self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.kill()
        finally:
            if self._log is not None:
                self._log.unlink(missing_ok=True)

    def requests(self) -> list[dict[str, Any]]:
        """Return the records of every request answered since the start or `clear_requests`.

        Fields: method, bucket, key, sub (such as list-type, objectMeta, uploadId), query, range,
        status, bytes, received, seconds.
        """
        assert self._log is not None, "started without a request log"
        return [json.loads(line) for line in self._log.read_text().splitlines()]

    def clear_requests(self) -> None:
        assert self._log is not None, "started without a request log"
        os.truncate(self._log, 0)

    def oss2_bucket(self, *, v4: bool = False, **options: Any) -> oss2.Bucket:
        """Return oss2's view of the bucket, signing with V1 or V4."""
        if self.token is not None:
            version = "v4" if v4 else "v1"
            auth: Any = oss2.StsAuth(self.key_id, self.key_secret, self.token, auth_version=version)
        elif v4:
            auth = oss2.AuthV4(self.key_id, self.key_secret)
        else:
            auth = oss2.Auth(self.key_id, self.key_secret)
        options.setdefault("connect_timeout", 30)
        return oss2.Bucket(
            auth, self.endpoint, self.bucket, region=self.region if v4 else None, **options
        )
