"""A mount's life: it ends when told to, by whatever means, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import oss2
import pytest

from ossfs.cli import mounts
from tests.mount.conftest import MountMaker
from tests.support.emulator import EmulatorProcess
from tests.support.mount import connection_of, drop_caches, run, wait_until

PROMPTLY_S = 8.0
"""A process that is told to end has ended by then, whatever it waits for."""


def test_sigterm_unmounts_and_ends_the_process(bucket: oss2.Bucket, mount: MountMaker) -> None:
    bucket.put_object("file", b"1")
    mounted = mount()
    assert run("cat", mounted.path / "file").stdout == b"1"
    os.kill(mounted.pid, signal.SIGTERM)
    mounted.wait()
    assert not mounted.mounted
    assert list(mounted.path.iterdir()) == []


def test_umount_ends_the_process(bucket: oss2.Bucket, mount: MountMaker) -> None:
    mounted = mount()
    mounted.unmount()
    assert "unmounted" in mounted.log


def test_a_busy_mount_can_be_told_to_end(bucket: oss2.Bucket, mount: MountMaker) -> None:
    bucket.put_object("file", b"1")
    mounted = mount()
    held = os.open(mounted.path / "file", os.O_RDONLY)
    assert run("umount", mounted.path, check=False).returncode != 0
    os.kill(mounted.pid, signal.SIGTERM)
    mounted.wait()
    assert not mounted.mounted
    with pytest.raises(OSError, match="not connected"):  # nobody is left to take the FLUSH
        os.close(held)


def test_ending_while_a_read_is_under_way_does_not_wait_for_it(
    bucket: oss2.Bucket, mount: MountMaker
) -> None:
    bucket.put_object("file", bytes(64 << 20))
    mounted = mount()
    with subprocess.Popen(
        ["sh", "-c", 'while cat "$0" >/dev/null 2>&1; do :; done', mounted.path / "file"]
    ) as reader:
        wait_until(lambda: mounted.statistics()["bytes_read"] > 0)
        os.kill(mounted.pid, signal.SIGTERM)
        mounted.wait()
        reader.wait(20)
    assert not mounted.mounted


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_requests_that_are_stuck_do_not_hold_up_the_end(
    emulator: EmulatorProcess, bucket: oss2.Bucket, mount: MountMaker, number: signal.Signals
) -> None:
    bucket.put_object("file", bytes(64 << 20))
    bucket.put_object("dir/file", b"1")
    mounted = mount()
    run("head", "-c", "1", mounted.path / "file")
    emulator.pause()
    try:
        users = [
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            for command in (
                ["cat", mounted.path / "file"],
                ["ls", mounted.path / "dir"],
                ["stat", mounted.path / "missing"],
            )
        ]
        with connection_of(mounted) as connection:
            wait_until(lambda: int((connection / "waiting").read_text()) >= len(users))
        begun = time.monotonic()
        for _ in range(3):  # a second signal must not kill it before its mount is gone
            os.kill(mounted.pid, number)
        wait_until(lambda: not mounted.mounted, PROMPTLY_S)
        mounted.wait(PROMPTLY_S)
        assert time.monotonic() - begun < PROMPTLY_S
        for user in users:
            said = user.communicate(timeout=10)[1]
            assert user.returncode != 0
            assert b"error" in said or b"not connected" in said or b"abort" in said, said
    finally:
        emulator.resume()
    assert list(mounted.path.iterdir()) == []


def test_the_end_while_pages_are_pushed_leaves_nobody_waiting(
    bucket: oss2.Bucket, mount: MountMaker
) -> None:
    """A push that waits for a page holds /dev/fuse open, and all who wait for that page with it."""
    for number in range(6):
        bucket.put_object(f"file-{number}", bytes(64 << 20))
    mounted = mount("read_ahead_kb=0")
    for moment in range(4):
        if moment:
            mounted.mount()
        readers = [
            subprocess.Popen(
                ["dd", f"if={mounted.path}/file-{number}", "of=/dev/null", "bs=1M"],
                stderr=subprocess.PIPE,
            )
            for number in range(6)
        ]
        time.sleep(0.1 + 0.1 * moment)
        os.kill(mounted.pid, signal.SIGTERM)
        mounted.wait(PROMPTLY_S)
        for reader in readers:
            reader.communicate(timeout=10)
        assert not mounted.mounted


def test_a_hangup_does_not_end_a_mount_in_the_background(
    bucket: oss2.Bucket, mount: MountMaker
) -> None:
    mounted = mount()
    os.kill(mounted.pid, signal.SIGHUP)
    assert mounted.statistics()
    assert mounted.mounted


def test_the_end_of_a_mount_detached_earlier_leaves_the_next_one_alone(
    bucket: oss2.Bucket, mount: MountMaker
) -> None:
    bucket.put_object("file", b"1")
    mounted = mount()
    earlier = mounted.pid
    departure = mounts.Departure([earlier])
    held = os.open(mounted.path / "file", os.O_RDONLY)
    run("umount", "-l", mounted.path)
    mounted.mount()
    os.kill(earlier, signal.SIGTERM)
    assert departure.wait(PROMPTLY_S) == []
    with pytest.raises(OSError, match="not connected"):
        os.close(held)
    assert run("cat", mounted.path / "file").stdout == b"1"


def test_a_connection_that_is_cut_takes_its_mount_along(
    bucket: oss2.Bucket, mount: MountMaker
) -> None:
    mounted = mount()
    with connection_of(mounted) as connection:
        (connection / "abort").write_text("1")
    mounted.wait()
    assert not mounted.mounted


def test_after_kill_9_the_next_mount_cleans_up(bucket: oss2.Bucket, mount: MountMaker) -> None:
    bucket.put_object("file", b"1")
    mounted = mount()
    os.kill(mounted.pid, signal.SIGKILL)
    mounted.wait()
    said = run("ls", mounted.path, check=False).stderr
    # What the kernel has sent just before the connection is torn down is aborted instead.
    assert b"not connected" in said or b"connection abort" in said
    mounted.mount()
    assert run("cat", mounted.path / "file").stdout == b"1"


def test_handlers_outnumber_no_deadline(bucket: oss2.Bucket, mount: MountMaker) -> None:
    for number in range(400):
        bucket.put_object(f"d{number % 20}/f{number}", b"x" * 1000)
    mounted = mount("attr_timeout=0")
    finders = [
        subprocess.Popen(["find", mounted.path, "-type", "f", "-size", "+0"], stdout=-1)
        for _ in range(8)
    ]
    readers = [subprocess.Popen(["grep", "-rc", "x", mounted.path], stdout=-1) for _ in range(4)]
    drop_caches()
    for process in finders:
        assert process.communicate(timeout=60)[0].count(b"\n") == 400
    for process in readers:
        assert process.communicate(timeout=60)[0].count(b":1\n") == 400
