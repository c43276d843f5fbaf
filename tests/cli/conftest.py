"""The real command in real processes, against an emulator with a key of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ossfs.cli import mounts
from tests.cli.command import Ossfs
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
    """Run the command; whatever it mounted below tmp_path is gone afterwards."""
    yield Ossfs(emulator, tmp_path)
    for mount in mounts.table():
        if mount.point.startswith(f"{tmp_path}/"):
            mounts.detach(mount.point, lazy=True)


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
