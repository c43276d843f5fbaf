"""A mount whose /dev/fuse was opened and mounted by somebody else, as container runtimes do."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import oss2
import pytest

from tests.support.emulator import EmulatorProcess
from tests.support.mount import PATIENCE_S, run

NOBODY = 65534


@pytest.fixture
def device(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """Mount a FUSE file system for user nobody to serve; the descriptor and the place."""
    point = tmp_path / "mnt"
    point.mkdir()
    for directory in (tmp_path, *tmp_path.parents):
        if directory.stat().st_uid == 0 and directory != Path("/"):
            directory.chmod(directory.stat().st_mode | 0o055)
    fd = os.open("/dev/fuse", os.O_RDWR)
    words = f"fd={fd},rootmode=40000,user_id={NOBODY},group_id={NOBODY},allow_other"
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.mount(b"bucket", os.fsencode(point), b"fuse.ossfs", 0, words.encode())
    assert done == 0, os.strerror(ctypes.get_errno())
    yield fd, point
    subprocess.run(["umount", "-l", point], capture_output=True, check=False)


def serve(
    server: EmulatorProcess, bucket: oss2.Bucket, point: Path, device: int, *prefix: str
) -> subprocess.Popen[str]:
    """Start `ossfs mount -f` with the descriptor, and wait until it serves."""
    environment = {"PATH": os.environ["PATH"], "HOME": "/tmp"}
    environment |= {
        "OSS_ACCESS_KEY_ID": server.key_id,
        "OSS_ACCESS_KEY_SECRET": server.key_secret,
    }
    command = [sys.executable, "-P", "-m", "ossfs", "mount", f"oss://{bucket.bucket_name}", point]
    options = f"oss_endpoint={server.endpoint},fuse_device_fd={device}"
    process = subprocess.Popen(
        [*prefix, *command, "-f", "-o", options],
        env=environment,
        cwd="/",
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=[device],
    )
    # Of ours alone: or a server that ends would leave callers waiting instead of an error.
    os.close(device)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("ossfs: mounted"):
            return process
    raise AssertionError(f"it ended with status {process.wait()}")


def test_a_given_mount_is_served_and_left_to_whoever_made_it(
    emulator: EmulatorProcess, bucket: oss2.Bucket, device: tuple[int, Path]
) -> None:
    fd, point = device
    bucket.put_object("file", b"hello\n")
    with serve(emulator, bucket, point, fd) as process:
        assert (point / "file").read_bytes() == b"hello\n"
        (point / "new").write_bytes(b"written")
        assert bucket.get_object("new").read() == b"written"
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
        assert str(point) in Path("/proc/self/mountinfo").read_text()


def test_the_process_ends_when_the_given_mount_is_taken_away(
    emulator: EmulatorProcess, bucket: oss2.Bucket, device: tuple[int, Path]
) -> None:
    fd, point = device
    with serve(emulator, bucket, point, fd) as process:
        assert os.listdir(point) == []
        run("umount", point)
        assert process.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("number", [99, 3])
def test_what_is_no_such_descriptor_is_refused(tmp_path: Path, number: int) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-P", "-m", "ossfs", "mount", "oss://bucket", tmp_path, "-f"),
            *("-o", f"oss_endpoint=http://127.0.0.1:9,fuse_device_fd={number}"),
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 2
    assert "fuse_device_fd" in done.stderr
    assert done.stderr.count("\n") == 1
