"""The real command in real processes, against an emulator with a key of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from ossfs.cli import mounts
from ossfs.runtime.mount_table import table
from tests.cli.command import Ossfs, serving_processes
from tests.support.emulator import EmulatorProcess


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    # The secret is this run's own: a test looks for it in every process of the machine.
    secret = f"cli-secret-{os.getpid()}-{os.urandom(8).hex()}"
    with EmulatorProcess(tmp_path_factory.mktemp("bucket"), key_secret=secret) as running:
        running.oss2_bucket().put_object("dir/file.txt", b"hello\n")
        yield running


@pytest.fixture
def ossfs(emulator: EmulatorProcess, tmp_path: Path) -> Iterator[Ossfs]:
    """Run the command; whatever it mounted below tmp_path is gone afterwards, and its server."""
    yield Ossfs(emulator, tmp_path)
    clear(tmp_path)


def clear(directory: Path) -> None:
    """Take away every mount below a directory and end who serves it, stopped or not."""
    for mount in reversed(table()):
        if mount.point.startswith(f"{directory}/"):
            pids = mounts.servers_of(mount)
            mounts.detach(mount.point, lazy=True)
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@pytest.fixture
def spawn() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start Python with some arguments; ended afterwards, if it has not ended by itself."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str, cwd: Path | None = None) -> subprocess.Popen[str]:
        command = [sys.executable, *words]
        started.append(
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=cwd, text=True
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@dataclass(frozen=True)
class TwoUsers:
    """Root and nobody, in one mount namespace of their own and in one directory."""

    root: Ossfs
    nobody: Ossfs


@pytest.fixture
def users(emulator: EmulatorProcess) -> Iterator[TwoUsers]:
    """Another user than root, where fusermount3 and /dev/fuse let users mount.

    The namespace has its own /dev/fuse, open to all as Debian's is, and its own mounts, which end
    with it.
    """
    directory = Path(tempfile.mkdtemp(prefix="ossfs-users-"))
    device = directory / "dev"
    script = f"""set -e
        mount -t tmpfs -o mode=755 none {device}
        mknod -m 666 {device}/fuse c 10 229
        mount --bind {device}/fuse /dev/fuse
        cp /etc/fuse.conf {device}/fuse.conf
        mount --bind {device}/fuse.conf /etc/fuse.conf
        echo; exec cat"""
    namespace = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
    try:
        directory.chmod(0o755)
        device.mkdir()
        with subprocess.Popen(
            namespace, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as keeper:
            assert keeper.stdout is not None
            assert keeper.stdout.readline() == "\n"
            enter = ["nsenter", f"--mount=/proc/{keeper.pid}/ns/mnt", "--"]
            # Reading is for this interpreter, which may lie in root's home.
            drop = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
            drop += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
            root = Ossfs(emulator, directory, enter)
            nobody = Ossfs(emulator, directory, [*enter, *drop])
            nobody.options = f"oss_endpoint={emulator.endpoint},allow_other=false"
            nobody.options += f",log_dir={directory}/nobody-log"
            shutil.chown(directory, "nobody")
            shutil.chown(nobody.point, "nobody")
            yield TwoUsers(root, nobody)
            for pid in serving_processes(root.point):
                os.kill(pid, signal.SIGKILL)
            keeper.stdin.close()  # type: ignore[union-attr]
    finally:
        shutil.rmtree(directory)
