"""A mount's life: it ends when told to, by whatever means, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess

import oss2

from tests.mount.conftest import MountMaker
from tests.support.mount import drop_caches, run, wait_until


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
    with (mounted.path / "file").open("rb") as held:
        assert run("umount", mounted.path, check=False).returncode != 0
        os.kill(mounted.pid, signal.SIGTERM)
        mounted.wait()
        assert not mounted.mounted
        del held


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


def test_after_kill_9_the_next_mount_cleans_up(bucket: oss2.Bucket, mount: MountMaker) -> None:
    bucket.put_object("file", b"1")
    mounted = mount()
    os.kill(mounted.pid, signal.SIGKILL)
    mounted.wait()
    assert b"not connected" in run("ls", mounted.path, check=False).stderr
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
