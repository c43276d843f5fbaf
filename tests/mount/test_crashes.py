"""kill -9 of the daemon: what a close or fsync had returned 0 for is in the bucket, whole."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import oss2
import pytest

from tests.mount.conftest import MountMaker
from tests.support.mount import run, wait_until
from tests.support.s3_bucket import S3Bucket

Bucket = oss2.Bucket | S3Bucket


@pytest.fixture(params=["oss", "s3"])
def store(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


WRITER = """
import os, random, sys
top, seed = sys.argv[1], int(sys.argv[3])
manifest = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
rng = random.Random(seed)
def sure(name, size, content):
    os.write(manifest, f"{name} {size} {content}\\n".encode())
    os.fsync(manifest)
try:
    for number in range(100_000):
        name, content = f"{seed}-{number}", rng.getrandbits(32)
        size = rng.choice([10, 50_000, 9 << 20])
        data = random.Random(content).randbytes(size)
        fd = os.open(f"{top}/{name}", os.O_WRONLY | os.O_CREAT)
        half = size // 2
        os.write(fd, data[:half])
        if rng.random() < 0.3:
            os.fsync(fd)
            sure(name, half, content)
        os.write(fd, data[half:])
        os.close(fd)
        sure(name, size, content)
except OSError:
    pass
"""


def some_promise(manifests: list[Path]) -> bool:
    return any(manifest.exists() and manifest.stat().st_size for manifest in manifests)


@pytest.mark.parametrize("staged", [False, True], ids=["sequential", "staged"])
def test_after_kill_9_everything_that_was_promised_is_there(
    bucket: Bucket, mount: MountMaker, tmp_path: Path, staged: bool
) -> None:
    rng = random.Random(seed := int(os.environ.get("OSSFS_SEED", time.time())))
    print(f"OSSFS_SEED={seed}")
    (tmp_path / "stage").mkdir()
    mounted = mount(*((f"temp_dir={tmp_path / 'stage'}",) if staged else ()))
    pending = 0
    for life in range(3):
        manifests = [tmp_path / f"manifest-{life}-{number}" for number in range(4)]
        writers = [
            subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    "-c",
                    WRITER,
                    mounted.path,
                    manifest,
                    str(life * 10 + number),
                ]
            )
            for number, manifest in enumerate(manifests)
        ]
        # SeaweedFS takes its time for the first object of a bucket.
        wait_until(partial(some_promise, manifests), 30.0)
        time.sleep(rng.uniform(1.0, 2.0))
        pending += mounted.statistics()["unsaved_files"]
        os.kill(mounted.pid, signal.SIGKILL)
        for writer in writers:
            assert writer.wait(30) == 0
        run("umount", "-l", mounted.path, check=False)
        promised: dict[str, tuple[int, int]] = {}
        for manifest in manifests:
            for line in manifest.read_text().splitlines():
                name, size, content = line.split()
                promised[name] = (int(size), int(content))
        assert promised
        mounted.mount()
        for name, (size, content) in promised.items():
            data = (mounted.path / name).read_bytes()
            whole = random.Random(content).randbytes(len(data))
            assert len(data) >= size, name
            assert data == whole or data == random.Random(content).randbytes(2 * size)[:size]
            assert bucket.get_object(name).read() == data
    assert pending, "nothing was pending when it was killed: this shows nothing"


def test_what_was_acknowledged_early_is_uploaded_by_the_next_mount(
    bucket: Bucket, mount: MountMaker, tmp_path: Path
) -> None:
    (tmp_path / "stage").mkdir()
    mounted = mount(f"temp_dir={tmp_path / 'stage'}", "ignore_fsync=true")
    handle = os.open(mounted.path / "f", os.O_WRONLY | os.O_CREAT)
    os.write(handle, b"promised")
    os.fsync(handle)
    os.kill(mounted.pid, signal.SIGKILL)
    with pytest.raises(OSError, match=r"abort|not connected"):
        os.close(handle)
    run("umount", "-l", mounted.path, check=False)
    mounted.mount()
    deadline = time.monotonic() + 10
    while not bucket.object_exists("f"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert bucket.get_object("f").read() == b"promised"
