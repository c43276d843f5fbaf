"""A real mount by the real command, which no test can leave behind or be wedged by."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ossfs.cli import mounts
from ossfs.cli.usage import peak_memory
from tests.support.emulator import EmulatorProcess
from tests.support.weed import WeedProcess

PATIENCE_S = 60.0
"""No command on a mount takes this long unless something hangs."""


def wait_until(condition: Any, seconds: float = 10.0) -> Any:
    """Return the first true value of `condition()`; fail when none comes in time."""
    limit = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < limit, f"{condition} did not come true within {seconds} s"
        time.sleep(0.01)
    return value


def drop_caches() -> None:
    """Make the kernel forget pages, names and inodes."""
    subprocess.run(["sync"], check=True, timeout=PATIENCE_S)
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


def run(
    *command: str | Path, check: bool = True, cwd: Path | None = None, seconds: float = PATIENCE_S
) -> subprocess.CompletedProcess[bytes]:
    """Run a command that may touch a mount, with a deadline."""
    done = subprocess.run(
        [os.fspath(word) for word in command],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=seconds,
        check=False,
    )
    assert not check or done.returncode == 0, (command, done.returncode, done.stderr[-2000:])
    return done


def python(
    script: str, *words: str | Path, check: bool = True, seconds: float = PATIENCE_S
) -> subprocess.CompletedProcess[bytes]:
    """Run Python source in a process of its own, with a deadline."""
    return run(sys.executable, "-I", "-c", script, *words, check=check, seconds=seconds)


class Mount:
    """`ossfs mount` of a server's bucket; use as a context manager.

    On the way out the mount is gone, its process has ended by itself with a log that tells of no
    internal error.
    """

    def __init__(
        self,
        server: EmulatorProcess | WeedProcess,
        directory: Path,
        *options: str,
        bucket: str | None = None,
        prefix: str = "",
    ) -> None:
        self.server = server
        self.path = directory / "mnt"
        self.path.mkdir(parents=True)
        self._logs = directory / "log"
        tail = f"/{prefix}" if prefix else ""
        self.source = f"{server.scheme}://{bucket or server.bucket}{tail}"
        self._options = [
            f"oss_endpoint={server.endpoint}",
            f"log_dir={self._logs}",
            "log_level=debug",
            *options,
        ]
        self.pid = 0
        self.internal_errors = 0
        """Tolerated on the way out; set by the test that provokes them."""

    def mount(self) -> subprocess.CompletedProcess[bytes]:
        """Run the command; fails unless it succeeds."""
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("OSS_")
        }
        environment["OSS_ACCESS_KEY_ID"] = self.server.key_id
        environment["OSS_ACCESS_KEY_SECRET"] = self.server.key_secret
        if self.server.token is not None:
            environment["OSS_SESSION_TOKEN"] = self.server.token
        command = [sys.executable, "-P", "-m", "ossfs", "mount", self.source, str(self.path)]
        done = subprocess.run(
            [*command, "-o", ",".join(self._options)],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        made = mounts.mount_at(str(self.path))
        assert made is not None
        try:
            (self.pid,) = mounts.servers_of(made)
        except ValueError:
            run("umount", "-l", self.path)
            raise
        return done

    @property
    def mounted(self) -> bool:
        return mounts.mount_at(str(self.path)) is not None

    @property
    def alive(self) -> bool:
        """The process runs; one that init has only not buried yet does not."""
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return False
        return state != "Z"

    @property
    def log(self) -> str:
        return (self._logs / "ossfs.log").read_text()

    def statistics(self) -> dict[str, Any]:
        """Ask the serving process for its counters."""
        told = self.log.count("statistics: ")
        os.kill(self.pid, signal.SIGUSR1)
        wait_until(lambda: self.log.count("statistics: ") > told)
        line = re.findall(r"statistics: (\{.*\})", self.log)[-1]
        return dict(json.loads(line))

    def memory(self) -> int:
        """Peak resident bytes of the serving process, shared memory included."""
        return peak_memory(self.pid)

    def unmount(self) -> None:
        """Unmount as a user does, and wait for the process to end."""
        run("umount", self.path)
        self.wait()

    def wait(self, seconds: float = 20.0) -> None:
        """Wait until the serving process has ended."""
        wait_until(lambda: not self.alive, seconds)

    def __enter__(self) -> Self:
        self.mount()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if self.alive and kind is None:
                assert self.statistics().get("internal_errors", 0) == self.internal_errors
        finally:
            self._clear()

    def _clear(self) -> None:
        if self.mounted:
            mounts.detach(str(self.path), lazy=True)
        try:
            self.wait()
        except AssertionError:
            os.kill(self.pid, signal.SIGKILL)
            raise


def listing(path: Path) -> Sequence[str]:
    """Return what `ls -A` says, in the kernel's order."""
    return run("ls", "-AU", path).stdout.decode().splitlines()


@contextmanager
def connection_of(mounted: Mount) -> Iterator[Path]:
    """Give the directory in which the kernel shows a mount's connection."""
    minor = os.minor(os.stat(mounted.path).st_dev)
    # Not at its usual place, where only systemd mounts it.
    with tempfile.TemporaryDirectory(prefix="fusectl-") as control:
        run("mount", "-t", "fusectl", "fusectl", control)
        try:
            yield Path(control) / str(minor)
        finally:
            run("umount", control)
