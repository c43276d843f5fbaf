"""Writers in little memory on a slow store: bounded, nobody hangs, others are answered."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import oss2
import pytest

from tests.support.emulator import EmulatorProcess
from tests.support.mount import Mount

MIB = 1 << 20
FILES, FILE_MIB = 64, 12

STATS = """
import os, sys, threading, time
path, worst = sys.argv[1], 0.0

def tell():
    sys.stdin.read()
    os.write(1, f"{worst}\\n".encode())
    os._exit(0)

threading.Thread(target=tell).start()
while True:
    began = time.monotonic()
    os.stat(path)
    worst = max(worst, time.monotonic() - began)
    time.sleep(0.02)
"""


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[EmulatorProcess]:
    with EmulatorProcess(
        tmp_path / "slow", fast_etags=True, latency_ms=10, bandwidth_mb=20
    ) as running:
        yield running


@contextmanager
def another_file(slow: EmulatorProcess, mounted: Mount) -> Iterator[Callable[[], float]]:
    """Look at another file all the time; give what tells the longest wait in seconds."""
    slow.oss2_bucket().put_object("other/file", b"x")
    os.stat(mounted.path / "other" / "file")
    with subprocess.Popen(
        [sys.executable, "-I", "-c", STATS, mounted.path / "other" / "file"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        yield lambda: float(process.communicate(timeout=20)[0])


def write(path: Path, mib: int, mark: int, errors: list[OSError]) -> None:
    piece = mark.to_bytes(8, "big") * (MIB // 8)
    try:
        with path.open("wb", buffering=0) as file:
            for _ in range(mib):
                file.write(piece)
    except OSError as error:
        errors.append(error)


def right(bucket: oss2.Bucket, name: str, mib: int, mark: int) -> bool:
    return bool(bucket.get_object(name).read() == mark.to_bytes(8, "big") * (MIB // 8 * mib))


def test_sixty_four_writers_share_what_there_is(slow: EmulatorProcess, tmp_path: Path) -> None:
    bucket = slow.oss2_bucket()
    with Mount(slow, tmp_path / "m", "total_mem_limit=256M", "attr_timeout=0") as mounted:
        interpreter = mounted.memory()
        errors: list[OSError] = []
        with another_file(slow, mounted) as worst:
            threads = [
                threading.Thread(
                    target=write, args=(mounted.path / f"f{mark}", FILE_MIB, mark, errors)
                )
                for mark in range(FILES)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(120)
                assert not thread.is_alive(), "a writer hangs"
            assert worst() < 3.0
        assert not errors
        assert mounted.memory() <= interpreter + 256 * MIB
        assert all(right(bucket, f"f{mark}", FILE_MIB, mark) for mark in range(FILES))


def test_idle_handles_do_not_stop_one_that_writes(slow: EmulatorProcess, tmp_path: Path) -> None:
    bucket = slow.oss2_bucket()
    with Mount(slow, tmp_path / "m", "total_mem_limit=256M", "attr_timeout=0") as mounted:
        interpreter = mounted.memory()
        idle = []
        for number in range(200):
            idle.append((mounted.path / f"one-{number}").open("wb", buffering=0))
            idle[-1].write(b"%d" % number)
        errors: list[OSError] = []
        with another_file(slow, mounted) as worst:
            write(mounted.path / "big", 1024, 7, errors)
            assert worst() < 3.0
        for file in idle:
            file.close()
        assert not errors
        assert mounted.memory() <= interpreter + 256 * MIB
        assert bucket.head_object("big").content_length == 1 << 30
        for number in range(200):
            assert bucket.get_object(f"one-{number}").read() == b"%d" % number
