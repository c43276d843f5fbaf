"""The mount table and waiting, without a mount."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ossfs.cli import mounts
from ossfs.cli.mounts import Mount

LINES = rb"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
40 22 0:35 / /mnt/a\040b\011c\134d ro,nosuid - fuse.ossfs oss://bucket/p\040q ro,user_id=0
41 22 0:36 / /mnt/\377 rw - fuse.ossfs oss://x rw
"""


def test_the_table_is_read_with_its_escapes(tmp_path: Path) -> None:
    path = tmp_path / "mountinfo"
    path.write_bytes(LINES)
    root, mount, odd = mounts.table(str(path))
    assert root == Mount("/", "ext4", "/dev/sda1")
    assert not root.ours
    assert mount == Mount("/mnt/a b\tc\\d", "fuse.ossfs", "oss://bucket/p q")
    assert mount.ours
    assert os.fsencode(odd.point) == b"/mnt/\xff"


def test_a_call_that_hangs_is_given_up() -> None:
    release = threading.Event()
    with pytest.raises(TimeoutError):
        mounts.within(0.01, release.wait)
    release.set()


def test_a_call_in_time_gives_its_result_or_its_error() -> None:
    assert mounts.within(10, lambda: 7) == 7
    with pytest.raises(FileNotFoundError):
        mounts.within(10, lambda: os.stat("/no/such/file"))


def test_a_departure_waits_for_the_end_of_each_process(
    spawn: Callable[..., subprocess.Popen[str]],
) -> None:
    goes, stays = spawn("-c", "input()"), spawn("-c", "input()")
    departure = mounts.Departure([goes.pid, stays.pid])
    goes.kill()
    assert departure.wait(0.5) == [stays.pid]


def test_a_process_that_is_gone_needs_no_waiting(
    spawn: Callable[..., subprocess.Popen[str]],
) -> None:
    process = spawn("-c", "pass")
    process.wait()
    assert mounts.Departure([process.pid]).wait(0) == []
