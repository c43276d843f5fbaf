"""One mount at a time on a mount point."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ossfs.cli import mounts
from ossfs.cli.claim import claim
from ossfs.runtime.failure import ExitStatus, UserError
from ossfs.runtime.mount_table import table
from tests.cli.command import Ossfs, serving_processes
from tests.support.mount import wait_until

STRANGER = """
import os, sys
from ossfs.cli.claim import claim
os.setresuid(65534, 65534, 65534)
with claim(sys.argv[1]) as held:
    print(held, flush=True)
    sys.stdin.read()
"""


def test_of_several_mounts_at_once_exactly_one_succeeds(ossfs: Ossfs) -> None:
    with ExitStack() as stack:
        started = [stack.enter_context(ossfs.start(*ossfs.usual)) for _ in range(4)]
        replies = [(process.communicate(timeout=20), process.returncode) for process in started]
    assert sorted(status for _, status in replies) == [0, 3, 3, 3]
    for (_, said), status in replies:
        if status:
            assert "is starting on" in said or "mounted already" in said
            assert str(ossfs.point) in said
    assert sum(mount.point == str(ossfs.point) for mount in table()) == 1
    assert (ossfs.point / "dir" / "file.txt").read_text() == "hello\n"


def test_in_the_foreground_as_well(ossfs: Ossfs) -> None:
    started = [ossfs.start(*ossfs.usual, "-f") for _ in range(3)]
    try:
        wait_until(lambda: sum(process.poll() is not None for process in started) == 2, 20)
        wait_until(lambda: mounts.mount_at(str(ossfs.point)))
        (winner,) = [process for process in started if process.poll() is None]
        assert (ossfs.point / "dir" / "file.txt").read_text() == "hello\n"
        winner.terminate()
        assert winner.wait(10) == 0
        assert sorted(process.returncode for process in started) == [0, 3, 3]
    finally:
        for process in started:
            process.kill()
            process.communicate()


def test_the_second_is_told_which_process_was_first(ossfs: Ossfs) -> None:
    ossfs.emulator.pause()
    try:
        with ossfs.start(*ossfs.usual) as first:
            wait_until(lambda: serving_processes(ossfs.point))
            reply = ossfs.mount()
            assert reply.status == 3
            assert f"another ossfs mount (process {first.pid}) is starting on" in reply.complaint
            ossfs.emulator.resume()
            first.communicate(timeout=20)
            assert first.returncode == 0
    finally:
        ossfs.emulator.resume()


def test_a_claim_lasts_until_the_mount_serves_and_no_longer(ossfs: Ossfs) -> None:
    assert ossfs.mount().status == 0
    with claim(str(ossfs.point)) as held:
        assert held is not None


def test_a_claim_is_for_one_path(tmp_path: Path) -> None:
    with claim(f"{tmp_path}/a"), claim(f"{tmp_path}/b"):
        with pytest.raises(UserError) as refused, claim(f"{tmp_path}/a"):
            pass
        assert refused.value.status is ExitStatus.MOUNTPOINT
        assert f"process {os.getpid()}" in refused.value.message
    with claim(f"{tmp_path}/a") as again:
        assert again is not None


@pytest.fixture
def stranger(tmp_path: Path, spawn: object) -> Iterator[str]:
    """A path whose claim another user holds."""
    path = f"{tmp_path}/mnt"
    process: subprocess.Popen[str] = spawn("-c", STRANGER, path)  # type: ignore[operator]
    assert process.stdout is not None
    assert process.stdout.readline().strip().isdigit()
    return path


def test_a_stranger_cannot_keep_others_from_mounting(stranger: str) -> None:
    with claim(stranger) as held:
        assert held is None


def test_a_name_that_is_bound_but_never_listened_on_holds_nobody_up(tmp_path: Path) -> None:
    point = f"{tmp_path}/mnt"
    with claim(point) as held:
        assert held is not None
        with socket.socket(fileno=os.dup(held)) as listening:
            name = listening.getsockname()
    with socket.socket(socket.AF_UNIX) as squatter:
        squatter.bind(name)
        begun = time.monotonic()
        with claim(point) as held:
            assert held is None
        assert time.monotonic() - begun < 5
